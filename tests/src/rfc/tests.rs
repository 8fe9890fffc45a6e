use super::{cite::*, *};

fn section(rfc: u32, section: &str) -> (u32, Item) {
    (rfc, Item::Section(section.into()))
}

#[test]
fn citations_in_a_comment() {
    assert_eq!(items("RFC 9293 MUST-12, MUST-14: it says so."), [(9293, Item::Must(12)), (9293, Item::Must(14))]);
    assert_eq!(items("(RFC 6298 section 5.3) and 5.4"), [section(6298, "5.3")]);
    assert_eq!(
        items("RFC 6298 sections 2.1 to 2.4 and 3."),
        ["2.1", "2.2", "2.3", "2.4", "3"].map(|at| section(6298, at))
    );
    assert_eq!(
        items("RFC 5961 section 3.2; RFC 9293 MUST-9."),
        [section(5961, "3.2"), (9293, Item::Must(9))],
        "two RFCs"
    );
    assert_eq!(items("RFC 6675, RFC 8985: three segments above the hole. In section 3 of nothing."), []);
    assert_eq!(items("MUST-3, the RFC says"), []);
}

#[test]
fn comments_that_count() {
    let source = "// RFC 1 MUST-1\nfn helper() {}\n\n/// RFC 2 MUST-2\n/// MUST-3\n#[test]\n// RFC 4 section 4\n#[ignore]\nfn it() {\n    // RFC 5 MUST-5\n}\n";
    assert_eq!(above_tests(source), [" RFC 2 MUST-2  MUST-3  RFC 4 section 4"]);
    let cited: Vec<_> = above_tests(source).iter().flat_map(|comment| items(comment)).collect();
    assert_eq!(cited, [(2, Item::Must(2)), (2, Item::Must(3)), section(4, "4")]);
    assert_eq!(items(&header("# RFC 6 MUST-6\n// RFC 7 section 7.1\n+0 listen\n# RFC 8 MUST-8\n")).len(), 2);
}

#[test]
fn what_is_complained_of() {
    let mut list = Vec::new();
    let text = "rfc = 1\n[[must]]\nnumber = 1\nsection = '2'\ntext = 'a'\n[[must]]\nnumber = 2\nsection = '2'\ntext = 'b'\nuntested = 'no'\n\
        [[must]]\nsection = '3'\ntext = 'c'\n";
    parse(text, &mut list).unwrap();
    let cited = |items: &[Item]| items.iter().map(|item| (1, item.clone())).collect();
    let third = Item::Section("3".into());
    assert_eq!(complaints(&list, &cited(&[Item::Must(1), third.clone()])), Vec::<String>::new());
    assert_eq!(
        complaints(&list, &cited(std::slice::from_ref(&third))),
        ["no test names it: RFC 1 MUST-1 (section 2): a"]
    );
    assert_eq!(
        complaints(&list, &cited(&[Item::Must(1), Item::Must(2)])),
        ["has a test now, take `untested` out: RFC 1 MUST-2 (section 2): b", "no test names it: RFC 1 section 3: c"]
    );
    assert!(parse("rfc = 1\n[[must]]\nsection = '2'\n", &mut list).unwrap_err().to_string().contains("`text`"));
    assert!(parse("", &mut list).is_err());
}
