//! Reads the header and the library's sources, and drives the C compilers.

use framewire::treck::{numbers, types};
use std::{
    collections::BTreeMap,
    env, fs,
    mem::offset_of,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

pub(crate) fn engine() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The header with the one that it includes.
fn header_text() -> String {
    ["trsocket.h", "trsocket_bsd.h"]
        .map(|name| fs::read_to_string(engine().join("include").join(name)).expect("the header"))
        .join("\n")
}

/// The compilers, and where the library is.
pub(crate) struct Toolchain {
    libraries: PathBuf,
    out: PathBuf,
}

impl Toolchain {
    /// `None`, said aloud, without a C compiler; that is a failure where nothing may be skipped.
    pub(crate) fn find() -> Option<Self> {
        if Command::new("gcc").arg("--version").output().is_err() {
            assert!(
                env::var_os("FRAMEWIRE_TEST_NO_SKIP").is_none_or(|value| value != "1"),
                "no gcc: install gcc and g++"
            );
            eprintln!("SKIPPED: no gcc");
            return None;
        }
        // Cargo puts the libraries of this test's build beside its executable.
        let libraries = env::current_exe().expect("this test").parent().expect("its folder").to_path_buf();
        assert!(libraries.join("libframewire.so").exists(), "no libframewire.so in {}", libraries.display());
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c_abi");
        fs::create_dir_all(&out).expect("a folder for programs");
        Some(Self { libraries, out })
    }

    /// The C compilers that programs must build with; clang where it is installed, and there it must be where nothing may be skipped.
    pub(crate) fn compilers(&self) -> &'static [&'static str] {
        if Command::new("clang").arg("--version").output().is_ok() {
            return &["gcc", "clang"];
        }
        assert!(env::var_os("FRAMEWIRE_TEST_NO_SKIP").is_none_or(|value| value != "1"), "no clang: install clang");
        eprintln!("SKIPPED: no clang");
        &["gcc"]
    }

    fn base(&self, compiler: &str, options: &[&str]) -> Command {
        let mut command = Command::new(compiler);
        command.args(["-g", "-Wall", "-Wextra", "-Werror"]).args(options);
        command.arg("-I").arg(engine().join("include")).arg("-I").arg(engine().join("tests/c"));
        command
    }

    /// Compiles and links a program with the shared library.
    pub(crate) fn compile(&self, compiler: &str, source: &Path, options: &[&str], name: &str) -> PathBuf {
        let program = self.unique(name);
        let mut command = self.base(compiler, options);
        command.arg(source).arg("-o").arg(&program).arg("-L").arg(&self.libraries).args(["-lframewire", "-lpthread"]);
        command.arg(format!("-Wl,-rpath,{}", self.libraries.display()));
        check(command);
        program
    }

    /// Compiles and links a program with the static library.
    pub(crate) fn link_static(&self, source: &Path, name: &str) -> PathBuf {
        let program = self.unique(name);
        let mut command = self.base("gcc", &["-std=c99"]);
        command.arg(source).arg("-o").arg(&program).arg(self.libraries.join("libframewire.a"));
        command.args(["-lpthread", "-ldl", "-lm", "-lgcc_s"]);
        if cfg!(feature = "af-xdp") {
            command.args(["-lelf", "-lz"]);
        }
        check(command);
        program
    }

    /// Compiles a text without linking it.
    pub(crate) fn compile_text(&self, compiler: &str, language: &str, text: &str, options: &[&str]) {
        let source = self.unique("text").with_extension("in");
        fs::write(&source, text).expect("a source file");
        let mut command = self.base(compiler, options);
        command.args(["-x", language, "-c"]).arg(&source).arg("-o").arg(source.with_extension("o"));
        check(command);
        for file in [source.with_extension("o"), source] {
            let _ = fs::remove_file(file);
        }
    }

    /// The shared library's own dynamic symbols, in order.
    pub(crate) fn exported_names(&self) -> Vec<String> {
        let output =
            Command::new("nm").args(["-D", "--defined-only"]).arg(self.libraries.join("libframewire.so")).output();
        let output = output.expect("nm (of binutils)");
        let text = String::from_utf8(output.stdout).expect("names");
        let mut names: Vec<_> =
            text.lines().filter_map(|line| line.split_whitespace().last()).map(String::from).collect();
        names.sort();
        names
    }

    /// Tests run at once: each has files of its own.
    fn unique(&self, name: &str) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        self.out.join(format!("{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)))
    }
}

fn check(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a program, whose output is shown if it fails.
pub(crate) fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new("timeout").arg("120").arg(program).args(arguments).output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.lines().last().is_some_and(|last| last.ends_with(" 0 failed")),
        "{}: {}\n{text}\n{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let _ = fs::remove_file(program);
}

/// Names of the header's `#define TM_… number`, functions and sizes aside.
pub(crate) fn numbers() -> Vec<String> {
    let text = header_text();
    let defines = text.lines().filter_map(|line| line.strip_prefix("#define ")).filter_map(|rest| rest.split_once(' '));
    let numeric = defines.filter(|(name, value)| {
        let value = value.trim_start();
        name.starts_with("TM_")
            && *name != "TM_FD_SETSIZE"
            && value.starts_with(|first: char| first.is_ascii_digit() || first == '(')
    });
    numeric.filter(|(name, _)| !name.contains('(')).map(|(name, _)| name.to_owned()).collect()
}

/// A program that does not compile unless the header has the library's numbers and layouts, and 4.4BSD's numbers under the plain names.
pub(crate) fn assertions() -> String {
    let mut text =
        String::from("#include \"trsocket.h\"\n#define SAME(name, a, b) typedef char name[(a) == (b) ? 1 : -1]\n");
    let mut count = 0;
    let mut same = |a: &str, b: String| {
        count += 1;
        text += &format!("SAME(check_{count}, {a}, {b});\n");
    };
    for (name, value) in numbers::ALL {
        same(&format!("(int){name}"), format!("({value})"));
    }
    macro_rules! layout {
        ($c:literal, $rust:ident, $($field:ident $c_field:literal),*) => {
            same(concat!("sizeof(", $c, ")"), size_of::<types::$rust>().to_string());
            $(same(concat!("offsetof(", $c, ", ", $c_field, ")"), offset_of!(types::$rust, $field).to_string());)*
        };
    }
    layout!("struct sockaddr", tfSockaddr, sa_len "sa_len", sa_family "sa_family", sa_data "sa_data");
    layout!("struct sockaddr_in", tfSockaddrIn, sin_len "sin_len", sin_family "sin_family", sin_port "sin_port", sin_addr "sin_addr", sin_zero "sin_zero");
    layout!("struct sockaddr_in6", tfSockaddrIn6, sin6_len "sin6_len", sin6_family "sin6_family", sin6_port "sin6_port", sin6_flowinfo "sin6_flowinfo", sin6_addr "sin6_addr", sin6_scope_id "sin6_scope_id");
    layout!("struct sockaddr_storage", tfSockaddrStorage, ss_len "ss_len", ss_family "ss_family", ss_pad "ss_pad", ss_align "ss_align");
    layout!("struct in_addr", tfInAddr, s_addr "s_addr");
    layout!("struct in6_addr", tfIn6Addr, s6_addr "s6_addr");
    layout!("fd_set", tfFdSet, fds_bits "fds_bits");
    layout!("ttUserBlock", ttUserBlock, userBufferPtr "userBufferPtr", userDataPtr "userDataPtr", userDataLength "userDataLength");
    layout!("ttUserPacket", ttUserPacket, pktuLinkNextPtr "pktuLinkNextPtr", pktuLinkDataPtr "pktuLinkDataPtr", pktuLinkDataLength "pktuLinkDataLength", pktuChainDataLength "pktuChainDataLength", pktuLinkExtraCount "pktuLinkExtraCount");
    layout!("tfStats", tfStats, framesTotal "framesTotal", framesFree "framesFree", bytesCopiedTx "bytesCopiedTx", bytesCopiedRx "bytesCopiedRx", udpReceived "udpReceived", udpSent "udpSent", dropped "dropped", callsWoken "callsWoken");
    for (name, value) in [
        ("MSG_OOB", 1),
        ("MSG_PEEK", 2),
        ("MSG_DONTROUTE", 4),
        ("MSG_DONTWAIT", 0x80),
        ("MSG_SCATTERED", 0x400),
        ("SOL_SOCKET", 0xffff),
        ("SO_REUSEADDR", 4),
        ("SO_BROADCAST", 0x20),
        ("SO_LINGER", 0x80),
        ("SO_SNDBUF", 0x1001),
        ("SO_RCVTIMEO", 0x1006),
        ("SO_ERROR", 0x1007),
        ("AF_INET", 2),
        ("SOCK_DGRAM", 2),
        ("IP_TTL", 4),
        ("IPPROTO_UDP", 17),
        ("SHUT_RDWR", 2),
        ("TM_EWOULDBLOCK", 235),
        ("TM_ECONNREFUSED", 261),
        ("FIONREAD", 0x4004_667f),
        ("SOCK_STREAM", 1),
        ("TCP_NODELAY", 1),
        ("TCP_MAXSEG", 2),
        ("TCP_STDURG", 8),
        ("TCP_MAXRT", 0x10),
        ("TCP_KEEPALIVE", 0x4001),
        ("TM_CB_CONNECT_COMPLT", 1),
        ("TM_CB_WRITE_READY", 0x200),
    ] {
        same(name, value.to_string());
    }
    text
}

/// (another name, call): the plain BSD names of the header, and what the programs call through.
pub(crate) fn aliases() -> Vec<(String, String)> {
    let text = header_text();
    let defines = text.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
    let plain = defines.map(|(alias, call)| (alias, call.trim())).filter(|(_, call)| call.starts_with("tf"));
    let helpers = [
        ("connect_to", "tfConnect"),
        ("CHECK_OPEN_ANSWERS", "tfOpenInterface"),
        ("CHECK_OPEN_ANSWERS", "tfNgOpenInterface"),
    ];
    plain.chain(helpers).map(|(alias, call)| (alias.to_owned(), call.to_owned())).collect()
}

/// The line of C has a call of one of `names`.
pub(crate) fn calls_one_of(line: &str, names: &[String]) -> bool {
    names.iter().any(|name| {
        line.match_indices(&format!("{name}("))
            .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_'))
    })
}

/// The line of C compares something with that error.
pub(crate) fn looks_for(line: &str, error: &str) -> bool {
    line.contains(&format!("TM_{error})"))
        || line.contains(&format!("TM_{error};"))
        || (error == "EBADF" && line.contains("CHECK_BAD("))
}

/// Name → "result(parameter types)" of every prototype in the header, in one spelling.
pub(crate) fn prototypes() -> BTreeMap<String, String> {
    prototypes_in(&header_text())
}

/// The same of any text in C.
pub(crate) fn prototypes_in(text: &str) -> BTreeMap<String, String> {
    let mut code = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        code += before;
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    code += rest;
    let lines = code.lines().filter(|line| !line.starts_with('#') && !line.ends_with('\\'));
    let code = lines.collect::<Vec<_>>().join(" ");
    let mut found = BTreeMap::new();
    for statement in code.split(';') {
        let statement = statement.rsplit(['{', '}']).next().unwrap_or(statement).trim();
        let Some((head, parameters)) = statement.split_once('(') else { continue };
        let at = head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let (result, name) = head.split_at(at);
        // Without a result type it is a call.
        if !name.starts_with("tf")
            || result.trim().is_empty()
            || result.contains(['=', '('])
            || result.contains("typedef")
        {
            continue;
        }
        let parameters = parameters.trim_end_matches(')').split(',').map(str::trim).filter(|one| *one != "void");
        let types: Vec<_> =
            parameters.map(|one| spelling(one.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_'))).collect();
        found.insert(name.to_owned(), format!("{}({})", spelling(result), types.join(", ")));
    }
    found
}

/// One blank between words, none before a star.
fn spelling(c_type: &str) -> String {
    c_type.replace('*', " * ").split_whitespace().collect::<Vec<_>>().join(" ").replace(" *", "*")
}

/// The same of every exported function in the library's sources, in C's words.
pub(crate) fn exports() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(engine().join("src/treck")).expect("the C face's sources") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a source file");
        for function in text.split("extern \"C\" fn ").skip(1).filter(|rest| rest.starts_with("tf")) {
            let (name, rest) = function.split_once('(').expect("parameters");
            let (parameters, rest) = rest.split_once(')').expect("the parameters' end");
            let result = rest.split_once('{').map_or("", |(result, _)| result).trim().trim_start_matches("->").trim();
            let types = parameters.split(',').filter_map(|one| one.split_once(':')).map(|(_, of)| c_type(of.trim()));
            let types = types.collect::<Vec<_>>().join(", ");
            found.insert(
                name.to_owned(),
                format!("{}({types})", if result.is_empty() { "void".into() } else { c_type(result) }),
            );
        }
    }
    found
}

fn c_type(of: &str) -> String {
    if let Some(pointed) = of.strip_prefix("*mut ") {
        return format!("{}*", c_type(pointed));
    }
    if let Some(pointed) = of.strip_prefix("*const ") {
        return format!("const {}*", c_type(pointed));
    }
    match of.rsplit("::").next().unwrap_or(of) {
        "c_int" => "int".into(),
        "c_char" => "char".into(),
        "c_ulong" => "unsigned long".into(),
        "c_void" => "void".into(),
        "u32" => "uint32_t".into(),
        "u64" => "uint64_t".into(),
        "timeval" => "struct timeval".into(),
        structure @ ("tfSockaddr" | "tfInAddr" | "iovec") => format!("struct {structure}"),
        name => name.into(),
    }
}
