use super::*;

#[test]
fn what_is_printed_as_defaults_are_the_defaults() {
    assert_eq!(Config::parse(DEFAULT_TOML).unwrap(), Config::default());
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

#[test]
fn every_key_is_explained_also_those_without_a_default() {
    let mut all = Config::default();
    all.draw.share = Some(0.5);
    let rule = SourceRule { name: "wukong".into(), count: Some(20_000_000), share: None };
    all.source.push(rule);
    // Comments that are TOML hold what has no default.
    let spoken: String = DEFAULT_TOML
        .lines()
        .map(|line| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let is_toml = bare.starts_with("[[") || bare.split(' ').nth(1) == Some("=");
            if is_toml { bare } else { line }
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(Config::parse(&spoken).unwrap(), all);
    let written = toml::to_string(&all).unwrap();
    assert_eq!(Config::parse(&written).unwrap(), all);
    for line in written.lines().filter(|line| line.contains('=')) {
        let key = line.split(' ').next().unwrap();
        assert!(DEFAULT_TOML.contains(&format!("{key} = ")), "{key} is not explained");
    }
}

#[test]
fn amounts_are_rounded_to_the_nearest() {
    assert_eq!(Config::default().amount().of(7), 4);
    assert_eq!(Amount::Share(0.3).of(10), 3);
    assert_eq!(Amount::Share(2.0).of(10), 20);
    assert_eq!(Amount::Count(5).of(3), 5);
}

#[test]
fn what_is_wrong_is_named_with_its_bounds() {
    for (text, named) in [
        ("[concepts]\nper_sample = 0", "concepts.per_sample is 0, it must be from 1 to 64"),
        ("[concepts]\nleast_similarity = nan", "concepts.least_similarity is NaN"),
        ("[weight]\npower = 0.3", "weight.power is 0.3, it must be 0, 0.25, 0.5, 0.75 or 1"),
        ("[weight]\nleast_frequency = 0", "weight.least_frequency"),
        ("[draw]\nrepeats = 65", "draw.repeats is 65, it must be from 1 to 64"),
        ("[draw]\nshare = 1.5", "draw.share is 1.5, it must be more than 0 and at most draw.repeats, 1"),
        ("[draw]\nshare = nan", "draw.share is NaN"),
        ("[draw]\ncount = 0", "draw.count is 0"),
        ("[draw]\ncount = 5\nshare = 0.5", "draw is given count = 5 and share = 0.5"),
        ("[draw]\nwithout_concept = \"maybe\"", "one_concept"),
        ("[[source]]\nname = \"a\"", "source \"a\" is without a count or share"),
        ("[[source]]\nname = \"\"\ncount = 1", "source.name"),
        ("[[source]]\nname = \"a\"\ncount = 1\n[[source]]\nname = \"a\"\ncount = 2", "that is there once"),
        ("[draws]", "unknown field `draws`"),
        ("[draw", "line 1"),
    ] {
        let error = Config::parse(text).unwrap_err().to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
}
