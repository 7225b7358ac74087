use crate::lang::grammar::Choices;
use crate::lang::{Params, parse, parse_statement};
use proptest::prelude::*;

fn check(text: &str, canonical: &str) {
    let tree = parse_statement(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(tree.to_string(), canonical, "{text}");
    assert_eq!(parse_statement(canonical), Ok(tree), "{canonical}");
}

#[test]
fn canonical_texts() {
    let cases = [
        ("select a,b from c", "SELECT a, b FROM c"),
        (
            "SELECT MEAN(\"v\") as \"M\" from \"d\"..\"m\" where a=1 and (b = 'x\\'y' or c=~/a\\/b/) group by time(60s), * fill(NONE) order by time desc limit 3 offset 1 slimit 2 soffset 1 tz('UTC')",
            "SELECT mean(v) AS M FROM d..m WHERE a = 1 AND (b = 'x\\'y' OR c =~ /a\\/b/) GROUP BY time(1m), * fill(none) ORDER BY time DESC LIMIT 3 OFFSET 1 SLIMIT 2 SOFFSET 1 TZ('UTC')",
        ),
        ("SELECT -v, a / -b FROM m", "SELECT -1 * v, a / (-1 * b) FROM m"),
        (
            "SELECT mean(v) FROM m fill(1.)",
            "SELECT mean(v) FROM m fill(1.0)",
        ),
        (
            "SELECT mean(v) FROM m GROUP BY time(1m, OVER 5m), time(1y6mo)",
            "SELECT mean(v) FROM m GROUP BY time(1m, over 5m), time(18mo)",
        ),
        (
            "SELECT sum(if(a>1,a,0)), case when a>1 and b<2 then 1 else 2 end FROM m",
            "SELECT sum(if(a > 1, a, 0)), CASE WHEN a > 1 AND b < 2 THEN 1 ELSE 2 END FROM m",
        ),
        (
            "SELECT cpu.u / \"m.x\" FROM cpu INNER JOIN (SELECT v FROM m) as b left join c as d GROUP BY host",
            "SELECT cpu.u / \"m.x\" FROM cpu JOIN (SELECT v FROM m) AS b LEFT JOIN c AS d GROUP BY host",
        ),
        (
            "SHOW MEASUREMENTS ON d.* WITH MEASUREMENT =~ /c/",
            "SHOW MEASUREMENTS ON d.* WITH MEASUREMENT =~ /c/",
        ),
        (
            "CREATE DATABASE d WITH SHARD DURATION 0s",
            "CREATE DATABASE d WITH SHARD DURATION 0s",
        ),
        ("GRANT ALL ON d TO u", "GRANT ALL PRIVILEGES ON d TO u"),
    ];
    for (text, canonical) in cases {
        check(text, canonical);
    }
}

#[test]
fn passwords_are_hidden() {
    for text in [
        "CREATE USER u WITH PASSWORD 'secret' WITH ALL PRIVILEGES",
        "SET PASSWORD FOR u = 'secret'",
    ] {
        let shown = parse_statement(text).map(|s| s.to_string()).unwrap_or_default();
        assert!(
            shown.contains("[REDACTED]") && !shown.contains("secret"),
            "{shown}"
        );
    }
}

/// Words of extensions are not reserved: as names they mean what they meant.
#[test]
fn new_words_are_names_too() {
    for word in [
        "over",
        "join",
        "left",
        "full",
        "asof",
        "inner",
        "case",
        "when",
        "then",
        "else",
        "rollup",
        "correlated",
        "if",
    ] {
        let text = format!(
            "SELECT mean({word}) AS {word}, {word} FROM {word}, {word} WHERE {word} > 1 GROUP BY {word}, time(1m, {word})"
        );
        let tree = parse_statement(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let quoted = text.replace(word, &format!("\"{word}\""));
        assert_eq!(Ok(tree), parse_statement(&quoted), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back_the_same(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let text = Choices::new(&bytes).statement();
        if let Ok(query) = parse(&text, &Params::new()) {
            let shown = query.to_string();
            prop_assert_eq!(parse(&shown, &Params::new()), Ok(query), "{} shown as {}", text, shown);
        }
    }

    #[test]
    fn most_of_the_grammar_can_be_parsed(bytes in prop::collection::vec(any::<u8>(), 2400)) {
        let texts: Vec<String> = bytes.chunks(60).map(|b| Choices::new(b).statement()).collect();
        let good = texts.iter().filter(|text| parse(text, &Params::new()).is_ok()).count();
        prop_assert!(good * 2 > texts.len(), "only {} of {}", good, texts.len());
    }
}
