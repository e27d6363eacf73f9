//! Explores one scenario and prints what it finds: `trace [scenario [rule …]]`, the rules being broken.

use imlink_model::{ALL, Rule, Scenario, explore, trace};

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next();
    let broken: Vec<String> = args.collect();
    let known: Vec<Rule> = Rule::ALL.iter().copied().filter(|r| broken.contains(&format!("{r:?}"))).collect();
    if known.len() != broken.len() {
        println!("unknown rule in {broken:?}; known: {:?}", Rule::ALL);
        return;
    }
    for scenario in ALL.iter().filter(|s| name.as_deref().is_none_or(|n| n == s.name || n == "all")) {
        let scenario = known.iter().fold(*scenario, |s: Scenario, r| s.breaking(*r));
        let start = std::time::Instant::now();
        let found = explore(&scenario);
        println!(
            "{:18} {:8} states, {:6} at rest, depth {:2}, {:.1} s: {}",
            scenario.name,
            found.states,
            found.at_rest,
            found.depth,
            start.elapsed().as_secs_f32(),
            found
                .violation
                .as_ref()
                .map_or_else(|| "holds".to_owned(), |(v, m)| format!("{v:?} after {} moves", m.len()))
        );
        if let Some((_, moves)) = found.violation.filter(|_| name.as_deref() != Some("all")) {
            println!("{}", trace(&scenario, &moves));
        }
    }
}
