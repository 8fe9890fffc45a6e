//! What the appliance cannot do, it says: the call, the interface, what to do about it; and ends with exit code 1.

use std::{fs, path::Path, process::Command};

use framewire_tests::rig::{
    Appliance, ECHO, ENGINE_V4, NetNs, Topology, configuration, framewire_binary, require_root,
};

/// Starts one that must not start, and looks for each of `words` in what it says.
#[track_caller]
fn refused(ns: &NetNs, config: &str, words: &[&str]) {
    let (status, output) = Appliance::refused(ns, config, &[]).expect("it ends");
    told(status.code(), &output, words);
}

#[track_caller]
fn told(code: Option<i32>, output: &str, words: &[&str]) {
    assert_eq!(code, Some(1), "{output}");
    for word in words {
        assert!(output.contains(word), "{word:?} is not in:\n{output}");
    }
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn interfaces_and_queues_that_are_not_there() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().queues(2).build().expect("topology");
    let nowhere = configuration("", ECHO).replace("\"fw0\"", "\"fw9\"");
    refused(&topology.engine, &nowhere, &["no interface \"fw9\"", "SIOCGIFINDEX", "ip link"]);
    let queues = configuration("queues = 4\n", ECHO);
    refused(&topology.engine, &queues, &["worker 2", "fw0 has no queue 2", "it has 2", "ethtool -L fw0"]);
    assert!(!topology.has_xdp_program().expect("link show"), "workers 0 and 1 had begun");
    let cores = configuration("", &format!("{ECHO}[worker]\ncores = [4000]\n"));
    refused(&topology.engine, &cores, &["worker 0", "core 4000", "may use"]);
}

#[test]
fn zero_copy_where_the_driver_has_none() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let config = configuration("zero_copy = \"required\"\n", ECHO);
    refused(
        &topology.engine,
        &config,
        &["zero-copy is required", "bind(XDP_ZEROCOPY)", "fw0 queue 0", "zero_copy = \"prefer\""],
    );
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("the default prefers it only");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert!(report.output.contains("copy"), "the banner says what was bound: {}", report.output);
    assert_eq!(report.stats["ports"][0]["copy"], "copy");
}

#[test]
fn an_mtu_beyond_a_frame_without_multi_buffer() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().mtu(9000).build().expect("topology");
    let config = configuration("multi_buffer = \"off\"\n", ECHO);
    refused(
        &topology.engine,
        &config,
        &["MTU 9000 of fw0", "XDP_USE_SG", "multi_buffer is \"off\"", "ip link set fw0 mtu"],
    );
}

#[test]
fn a_queue_that_is_taken() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let first = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    refused(&topology.engine, &configuration("", ECHO), &["bind to fw0 queue 0", "ss --xdp"]);
    assert_eq!(topology.peer.ping(ENGINE_V4.into(), 3, 56).expect("ping").received, 3, "the first is not disturbed");
    first.stop().expect("stop").check().expect("clean");
}

#[test]
fn capabilities_that_are_missing() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    for (without, words) in [
        (&["net_raw"][..], &["AF_XDP on fw0 queue 0 needs CAP_NET_RAW", "run as root", "setcap"][..]),
        // CAP_SYS_ADMIN would stand in for CAP_BPF.
        (&["bpf", "sys_admin"], &["CAP_BPF", "run as root"]),
        (&["net_admin", "sys_admin"], &["CAP_NET_ADMIN", "run as root"]),
    ] {
        let (status, output) =
            Appliance::refused_without(&topology.engine, &configuration("", ECHO), without).expect("it ends");
        told(status.code(), &output, words);
        assert!(!topology.has_xdp_program().expect("link show"));
    }
}

#[test]
fn files_that_cannot_be_written() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let capture = configuration("", &format!("{ECHO}[capture]\nfile = \"/nonexistent/x.pcapng\"\n"));
    refused(&topology.engine, &capture, &["/nonexistent/x.pcapng", "No such file"]);
    let arguments = ["--stats-json", "/nonexistent/s.json"];
    let (status, output) = Appliance::refused(&topology.engine, &configuration("", ECHO), &arguments).expect("it ends");
    // Given twice, the command line itself is wrong.
    assert_eq!(status.code(), Some(2), "{output}");
}

#[test]
fn every_sample_configuration_is_right() {
    let framewire = framewire_binary().expect("the appliance");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("configs") {
        let path = entry.expect("entry").path();
        let output = Command::new(framewire).args(["serve", "--check", "-c"]).arg(&path).output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("valid"), "{}: {output:?}", path.display());
        count += 1;
    }
    assert!(count >= 5, "{count} samples");
}

#[test]
fn a_wrong_configuration_names_file_line_and_field() {
    let folder = framewire_tests::rig::TempDir::create().expect("folder");
    let file = folder.path().join("wrong.toml");
    fs::write(
        &file,
        "[[interface]]\nname = \"fw0\"\naddresses = [\"10.0.0.1/24\"]\nqueus = 2\n\n[[service]]\nkind = \"udp-eco\"\n",
    )
    .expect("write");
    let framewire = framewire_binary().expect("the appliance");
    let output = Command::new(framewire).args(["serve", "--check", "-c"]).arg(&file).output().expect("run");
    let text = String::from_utf8_lossy(&output.stderr);
    let place = |line: u32| format!("{}:{line}:", file.display());
    told(output.status.code(), &text, &[&place(4), "queus", "`queues`", &place(7), "udp-eco", "\"udp-echo\""]);
}
