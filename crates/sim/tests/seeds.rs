//! Seeds that must pass, and runs that must repeat exactly.

#[test]
fn the_same_seed_twice_gives_the_same_hash() {
    for seed in [3, 5, 45] {
        let first = sim::play(seed, None).expect("passes");
        let second = sim::play(seed, None).expect("passes");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_ne!(first.hash, 0);
    }
}

#[test]
fn every_seed_of_the_corpus_passes() {
    for seed in sim::corpus() {
        if let Err(finding) = sim::play(seed, None) {
            panic!(
                "seed {seed}: {}; play it again: cargo xtask sim --seed {seed}",
                finding.what
            );
        }
    }
}
