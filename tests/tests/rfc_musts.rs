//! What TCP's RFCs demand has a test, or a reason why not.

use framewire_tests::rfc;
use std::{collections::BTreeSet, path::Path};

#[test]
fn every_requirement_has_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let requirements = rfc::requirements(&root.join("rfc")).expect("tests/rfc");
    let rfcs: BTreeSet<u32> = requirements.iter().map(|requirement| requirement.rfc).collect();
    assert_eq!(rfcs.into_iter().collect::<Vec<_>>(), [2018, 5681, 5961, 6298, 6675, 7323, 8985, 9293]);
    let citations = rfc::citations(&root.join("../engine")).expect("engine");
    let complaints = rfc::complaints(&requirements, &citations);
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), requirements.len(), complaints.join("\n"));
    for requirement in rfc::uncovered(&requirements, &citations) {
        println!("{requirement}\n    not tested: {}", requirement.untested.as_deref().unwrap_or_default());
    }
}
