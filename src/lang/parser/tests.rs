use super::*;
use crate::lang::grammar::Choices;
use proptest::prelude::*;

fn error_of(text: &str) -> String {
    match parse(text, &Params::new()) {
        Ok(query) => panic!("{text} parsed as {query}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn errors_name_the_place() {
    let cases = [
        (
            "SELECT v\nFROM m\n  WHERE ",
            "found EOF, expected identifier, string, number, bool at line 3, char 10",
        ),
        (
            "SELECT \"ü\", FROM m",
            "found FROM, expected identifier, string, number, bool at line 1, char 13",
        ),
        (
            "SELECT v FROM m; SELEC w FROM m",
            "found SELEC, expected SELECT, DELETE, SHOW, CREATE, DROP, EXPLAIN, GRANT, REVOKE, ALTER, SET, KILL at line 1, char 18",
        ),
        (
            "SELECT v FROM m GROUP BY time(1m, over)x",
            "found x, expected ; at line 1, char 40",
        ),
        (
            "SELECT v FROM m SELECT",
            "found SELECT, expected ; at line 1, char 17",
        ),
        (
            "SELECT count(v > 1) FROM m",
            "invalid operator > in SELECT clause at line 1, char 8; operator is intended for WHERE clause",
        ),
        (
            "SHOW SERIES ORDER BY host",
            "only ORDER BY time supported at this time",
        ),
        (
            "SELECT v FROM m WHERE t =~ /(/",
            "error parsing regexp: unclosed group at line 1, char 27",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(error_of(text), want, "{text}");
    }
}

#[test]
fn bound_values_add_no_syntax() {
    let params: Params = [
        ("t", BindValue::String("x' OR 'a' = 'a".into())),
        (
            "n",
            BindValue::Identifier("v\" FROM m; DROP DATABASE d; SELECT \"v".into()),
        ),
        ("r", BindValue::Regex("a/b".into())),
        ("d", BindValue::Duration("90s".into())),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into();
    let query = parse(
        "SELECT $n FROM m WHERE t = $t AND u =~ $r GROUP BY time($d)",
        &params,
    )
    .expect("a query");
    assert_eq!(
        query.to_string(),
        "SELECT \"v\\\" FROM m; DROP DATABASE d; SELECT \\\"v\" FROM m WHERE t = 'x\\' OR \\'a\\' = \\'a' AND u =~ /a\\/b/ GROUP BY time(90s)"
    );
    assert_eq!(query.statements.len(), 1);
}

/// Test threads have two megabytes of stack, as those that run queries have.
#[test]
fn deep_and_long_texts_end_with_an_error_or_a_flat_tree() {
    let repeated = |part: &str, n: usize| part.repeat(n);
    let long = 50_000;
    let refused = [
        format!("SELECT v FROM m WHERE {}", repeated("(", long)),
        format!("SELECT {} FROM m", repeated("-(", long)),
        format!("SELECT {}", repeated("f(", long)),
        format!("SELECT v FROM {}", repeated("(SELECT v FROM ", 10_000)),
        format!("SELECT a{} FROM m", repeated(" + a", long)),
        format!("SELECT a FROM m{}", repeated(" JOIN m", long)),
        format!("SELECT {}", repeated("CASE WHEN a THEN ", long)),
        format!("SELECT v FROM m WHERE a = 1{}", repeated(" < 2", long)),
        repeated(" ", TEXT_BYTES_MAX + 1),
    ];
    for text in refused {
        assert!(parse(&text, &Params::new()).is_err(), "{:.60}", text);
    }
    let terms: Vec<String> = (0..20_000).map(|i| format!("host = 'h{i}'")).collect();
    for op in [" OR ", " AND "] {
        let text = format!("SELECT v FROM m WHERE {}", terms.join(op));
        let query = parse(&text, &Params::new()).expect("long rows of AND and OR are fine");
        assert_eq!(query.to_string(), text);
    }
    // The deepest tree that is allowed.
    let mut deepest = "a".to_string();
    for _ in 0..40 {
        deepest = format!("({deepest}{})", repeated(" + a", 20));
    }
    let text = format!("SELECT {deepest} FROM m");
    let query = parse(&text, &Params::new()).expect("within the limits");
    assert_eq!(query.to_string(), text);
    assert_eq!(query.clone(), query);
}

fn mangled() -> impl Strategy<Value = String> {
    let bytes = prop::collection::vec(any::<u8>(), 0..80);
    let pieces = prop::collection::vec((any::<prop::sample::Index>(), "[ -~µ\n]{0,3}"), 0..4);
    (bytes, pieces).prop_map(|(bytes, pieces)| {
        let mut text: Vec<char> = Choices::new(&bytes).statement().chars().collect();
        for (at, piece) in pieces {
            let at = at.index(text.len() + 1);
            let end = (at + piece.len()).min(text.len());
            text.splice(at..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![any::<String>(), mangled(), "[-a-zA-Z0-9_\"'/\\\\ ().,;:=<>!~$*+%&|^\n]{0,60}"]) {
        if let Err(error) = parse(&text, &Params::new()) {
            prop_assert!(error.offset.is_none_or(|at| at <= text.len()));
        }
    }
}
