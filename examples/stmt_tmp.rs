use std::io::Read;
fn main() {
    let mut t = String::new(); std::io::stdin().read_to_string(&mut t).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_str(&t).unwrap();
    let (mut ok, mut bad) = (0, 0);
    for c in &list {
        let s = c["statement"].as_str().unwrap();
        let mut params = kymo::lang::Params::new();
        if let Some(map) = c["params"].as_object() { for (k, v) in map { params.insert(k.clone(), kymo::lang::BindValue::from_json(v)); } }
        let got = kymo::lang::parse(s, &params);
        let good = match (&got, c["valid"].as_bool().unwrap()) { (Ok(_), true) => true, (Err(e), false) => e.text == c["error"].as_str().unwrap(), _ => false };
        if good { ok += 1 } else { bad += 1; println!("{s}\n   got  {:?}\n   want {}", got.map(|_| "parsed").map_err(|e| e.text), c["error"]); }
    }
    println!("{ok} ok, {bad} bad");
}
