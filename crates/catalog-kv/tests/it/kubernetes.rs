//! What drivers report of Kubernetes: exact in number, bounded, never of two clusters at once, and not written when it is as it was.

use super::tasks::run;
use catalog::kv::Change;
use catalog::{
    CLAIMS_MAX, Catalog, CatalogError, ClaimRow, KUBERNETES_MAX, KnownRows, KubernetesNews,
    KubernetesRow, REPORTED_STEP_MS, Row,
};

fn claim(uid: usize) -> ClaimRow {
    ClaimRow {
        cluster: "prod".to_owned(),
        uid: format!("u-{uid:05}"),
        namespace: "shop".to_owned(),
        name: format!("data-{uid}"),
        status: "Bound".to_owned(),
        ..ClaimRow::default()
    }
}

fn news(claims: impl IntoIterator<Item = usize>) -> KubernetesNews {
    KubernetesNews {
        name: "prod".to_owned(),
        uid: "k-1".to_owned(),
        version: "v1.35.2".to_owned(),
        driver: "1".to_owned(),
        claims: claims.into_iter().map(claim).collect(),
        now_ms: 1_000_000,
        ..KubernetesNews::default()
    }
}

fn gone(uids: impl IntoIterator<Item = usize>) -> KubernetesNews {
    KubernetesNews {
        gone: uids.into_iter().map(|uid| claim(uid).uid).collect(),
        ..news([])
    }
}

async fn row(catalog: &Catalog) -> KubernetesRow {
    let found = catalog.kubernetes("prod").await.unwrap();
    found.expect("it was reported").row
}

async fn claims(catalog: &Catalog) -> Vec<String> {
    let prefix = ClaimRow::prefix_of("prod");
    let known = KnownRows::<ClaimRow>::default();
    let known = known.refreshed(catalog, &prefix).await.unwrap();
    known.rows().map(|claim| claim.uid.clone()).collect()
}

#[test]
fn claims_come_change_and_go_and_are_counted() {
    run(async |catalog| {
        catalog.report_kubernetes(&news(0..250)).await.unwrap();
        assert_eq!(row(&catalog).await.claims, 250);
        let mut changed = news([7]);
        changed.claims[0].status = "Lost".to_owned();
        changed.gone = gone([8, 9, 900]).gone;
        catalog.report_kubernetes(&changed).await.unwrap();
        assert_eq!(row(&catalog).await.claims, 248);
        let uids = claims(&catalog).await;
        assert_eq!(uids.len(), 248);
        assert!(!uids.contains(&claim(8).uid) && uids.contains(&claim(7).uid));
        let other = ClaimRow {
            cluster: "prod-2".to_owned(),
            ..claim(1)
        };
        let other = KubernetesNews {
            name: "prod-2".to_owned(),
            claims: vec![other],
            ..news([])
        };
        catalog.report_kubernetes(&other).await.unwrap();
        assert_eq!(claims(&catalog).await.len(), 248, "one of each cluster");
    });
}

#[test]
fn what_is_as_it_was_is_not_written_but_that_somebody_is_there() {
    run(async |catalog| {
        let first = news(0..3);
        catalog.report_kubernetes(&first).await.unwrap();
        let before = catalog.kubernetes("prod").await.unwrap().unwrap();
        let mut again = first.clone();
        again.now_ms += REPORTED_STEP_MS - 1;
        catalog.report_kubernetes(&again).await.unwrap();
        catalog.report_kubernetes(&gone([77])).await.unwrap();
        let same = catalog.kubernetes("prod").await.unwrap().unwrap();
        assert_eq!(same, before, "nothing was written");
        again.now_ms += 1;
        again.claims.clear();
        let mut watch = catalog.kv().watch("", before.version);
        catalog.report_kubernetes(&again).await.unwrap();
        assert_eq!(row(&catalog).await.reported_ms, again.now_ms);
        let changes = watch.next().await.unwrap();
        let key = |change: &Change| match change {
            Change::Put(entry) => entry.key.clone(),
            Change::Deleted { key, .. } => key.clone(),
        };
        let keys: Vec<String> = changes.iter().map(key).collect();
        assert_eq!(keys, ["kubernetes/prod"]);
    });
}

#[test]
fn a_change_of_a_claim_replaces_the_row_of_its_cluster() {
    run(async |catalog| {
        catalog.report_kubernetes(&news(0..3)).await.unwrap();
        let before = catalog.kubernetes("prod").await.unwrap().unwrap();
        let mut changed = news([1]);
        changed.claims[0].reason = Some("no space".to_owned());
        catalog.report_kubernetes(&changed).await.unwrap();
        let after = catalog.kubernetes("prod").await.unwrap().unwrap();
        assert_eq!(after.row, before.row);
        assert!(after.version > before.version);
    });
}

#[test]
fn another_cluster_of_the_same_name_is_refused_until_the_first_is_forgotten() {
    run(async |catalog| {
        catalog.report_kubernetes(&news(0..300)).await.unwrap();
        let other = KubernetesNews {
            uid: "k-2".to_owned(),
            ..news([5])
        };
        let refused = catalog.report_kubernetes(&other).await;
        assert!(
            matches!(refused, Err(CatalogError::Taken(_))),
            "{refused:?}"
        );
        assert_eq!(row(&catalog).await.uid, "k-1");
        catalog.forget_kubernetes("prod").await.unwrap();
        assert_eq!(claims(&catalog).await.len(), 0);
        let missing = catalog.forget_kubernetes("prod").await;
        assert!(matches!(missing, Err(CatalogError::NotFound { .. })));
        catalog.report_kubernetes(&other).await.unwrap();
        assert_eq!(row(&catalog).await.claims, 1);
    });
}

#[test]
fn clusters_and_claims_are_bounded_and_what_goes_makes_room() {
    run(async |catalog| {
        let most = usize::try_from(CLAIMS_MAX).unwrap();
        for first in (0..most).step_by(1000) {
            let part = news(first..first + 1000);
            catalog.report_kubernetes(&part).await.unwrap();
        }
        let refused = catalog.report_kubernetes(&news([most])).await;
        assert!(matches!(refused, Err(CatalogError::Refused(_))));
        let mut exchanged = news([most]);
        exchanged.gone = gone([0]).gone;
        catalog.report_kubernetes(&exchanged).await.unwrap();
        assert_eq!(row(&catalog).await.claims, CLAIMS_MAX);
        catalog.report_kubernetes(&news([5])).await.unwrap();
        for number in 1..KUBERNETES_MAX {
            let one = KubernetesNews {
                name: format!("cluster-{number}"),
                ..news([])
            };
            catalog.report_kubernetes(&one).await.unwrap();
        }
        let one = KubernetesNews {
            name: "one-more".to_owned(),
            ..news([])
        };
        let refused = catalog.report_kubernetes(&one).await;
        assert!(matches!(refused, Err(CatalogError::Refused(_))));
        catalog.forget_kubernetes("prod").await.unwrap();
        catalog.report_kubernetes(&one).await.unwrap();
        assert_eq!(catalog.list::<ClaimRow>().await.unwrap().len(), 0);
    });
}

#[test]
fn a_name_that_is_no_key_is_refused() {
    run(async |catalog| {
        for name in ["", "a/b"] {
            let odd = KubernetesNews {
                name: name.to_owned(),
                ..news([])
            };
            let refused = catalog.report_kubernetes(&odd).await;
            assert!(matches!(refused, Err(CatalogError::Refused(_))));
        }
        assert_eq!(catalog.list::<KubernetesRow>().await.unwrap().len(), 0);
    });
}

#[test]
fn rows_that_are_known_are_read_again_only_when_they_changed() {
    run(async |catalog| {
        catalog.report_kubernetes(&news(0..600)).await.unwrap();
        let prefix = ClaimRow::prefix_of("prod");
        let known = KnownRows::<ClaimRow>::default();
        let first = known.refreshed(&catalog, &prefix).await.unwrap();
        let mut changed = news([3]);
        changed.claims[0].status = "Lost".to_owned();
        changed.gone = gone([4]).gone;
        catalog.report_kubernetes(&changed).await.unwrap();
        let second = first.refreshed(&catalog, &prefix).await.unwrap();
        assert_eq!((first.rows().len(), second.rows().len()), (600, 599));
        let of = |rows: &KnownRows<ClaimRow>, uid: usize| {
            let key = claim(uid).key();
            let mut rows = rows.rows().filter(|row| row.key() == key);
            rows.next().cloned()
        };
        let (before, after) = (of(&first, 3).unwrap(), of(&second, 3).unwrap());
        assert_eq!(
            (before.status.as_str(), after.status.as_str()),
            ("Bound", "Lost")
        );
        let (before, after) = (of(&first, 5).unwrap(), of(&second, 5).unwrap());
        assert!(std::rc::Rc::ptr_eq(&before, &after));
        assert!(of(&second, 4).is_none());
    });
}
