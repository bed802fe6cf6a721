//! Parts of lists that the backend answers whole.
//!
//! Pages are in the order of what they go on after, which never changes for an item: whatever comes and goes between two pages, what is
//! there all the while comes once. That is why there is no other order to ask for.

use super::{Shared, bad};
use crate::reply::Reply;
use api::query::LIMIT_MAX;
use api::{Answer, DiskAnswer, IdPage, NamePage, Operation, OperationError};
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

pub(super) type NameText = Result<Query<NamePage>, QueryRejection>;
pub(super) type IdText = Result<Query<IdPage>, QueryRejection>;

/// Items after one, at most so many.
struct Part<K> {
    limit: Option<u32>,
    after: Option<K>,
}

impl<K: Ord> Part<K> {
    fn new(limit: Option<u32>, after: Option<K>) -> Result<Self, OperationError> {
        match limit {
            Some(limit) if !(1..=LIMIT_MAX).contains(&limit) => Err(OperationError::bad_request(
                format!("`limit` is 1 to {LIMIT_MAX}"),
            )),
            limit => Ok(Self { limit, after }),
        }
    }

    /// Whether the list is asked for as it is.
    fn is_all(&self) -> bool {
        self.limit.is_none() && self.after.is_none()
    }

    /// The part of `all` that is asked for.
    fn of<T>(&self, mut all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
        all.retain(|item| self.after.as_ref().is_none_or(|after| key(item) > *after));
        all.sort_by_key(key);
        all.truncate(self.limit.map_or(usize::MAX, |limit| limit as usize));
        all
    }
}

/// Where a disk comes in its list.
type DiskPlace = (String, u32, String);

fn place_of(disk: &DiskAnswer) -> DiskPlace {
    (disk.node.clone(), disk.store, disk.path.clone())
}

fn place_in(text: &str) -> Result<DiskPlace, OperationError> {
    let mut parts = text.splitn(3, '/');
    let mut next = || parts.next();
    let place = match (next(), next().map(str::parse), next()) {
        (Some(node), Some(Ok(store)), Some(path)) => {
            Some((node.to_owned(), store, path.to_owned()))
        }
        _ => None,
    };
    place.ok_or_else(|| {
        OperationError::bad_request(format!(
            "`after` of disks is NODE/STORE/PATH, as in node-1/3//dev/sdb, and not `{text}`"
        ))
    })
}

fn odd() -> OperationError {
    OperationError::failed("a question for a list was answered by something else")
}

fn by_name(answer: Answer, part: &Part<String>) -> Result<Answer, OperationError> {
    Ok(match answer {
        all if part.is_all() => all,
        Answer::Containers(all) => Answer::Containers(part.of(all, |one| one.name.clone())),
        Answer::Users(all) => Answer::Users(part.of(all, |one| one.name.clone())),
        Answer::Tokens(all) => Answer::Tokens(part.of(all, |one| one.name.clone())),
        Answer::AlertTargets(all) => Answer::AlertTargets(part.of(all, |one| one.name.clone())),
        _ => return Err(odd()),
    })
}

fn by_id(answer: Answer, part: &Part<u64>) -> Result<Answer, OperationError> {
    Ok(match answer {
        all if part.is_all() => all,
        Answer::Stores(all) => Answer::Stores(part.of(all, |one| u64::from(one.id))),
        Answer::GroupSnapshots(all) => {
            Answer::GroupSnapshots(part.of(all, |one| one.id.parse().unwrap_or(u64::MAX)))
        }
        _ => return Err(odd()),
    })
}

impl Shared {
    /// A list that is ordered by name.
    pub(super) async fn named(&self, page: NameText, list: Operation) -> Reply {
        let answered = async {
            let Query(NamePage { limit, after }) = page.map_err(|cause| bad(&cause))?;
            let part = Part::new(limit, after)?;
            by_name(self.call(list).await?, &part)
        };
        answered.await.into()
    }

    /// A list that is ordered by id.
    pub(super) async fn numbered(&self, page: IdText, list: Operation) -> Reply {
        let answered = async {
            let Query(IdPage { limit, after }) = page.map_err(|cause| bad(&cause))?;
            let part = Part::new(limit, after)?;
            by_id(self.call(list).await?, &part)
        };
        answered.await.into()
    }

    /// The disks, which are ordered by node, store and path.
    pub(super) async fn disks(&self, page: NameText) -> Reply {
        let answered = async {
            let Query(NamePage { limit, after }) = page.map_err(|cause| bad(&cause))?;
            let after = after.as_deref().map(place_in).transpose()?;
            let part = Part::new(limit, after)?;
            match self.call(Operation::DiskList).await? {
                all if part.is_all() => Ok(all),
                Answer::Disks(all) => Ok(Answer::Disks(part.of(all, place_of))),
                _ => Err(odd()),
            }
        };
        answered.await.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_whatever_the_list_is_ordered_by() {
        let all = vec![3, 1, 5, 2, 4];
        let page =
            |limit, after| Part::new(limit, after).map(|part| part.of(all.clone(), |one| *one));
        assert!(Part::<u8>::new(None, None).is_ok_and(|part| part.is_all()));
        assert_eq!(page(Some(2), None), Ok(vec![1, 2]));
        assert_eq!(page(Some(2), Some(2)), Ok(vec![3, 4]));
        assert_eq!(page(Some(2), Some(4)), Ok(vec![5]));
        assert_eq!(page(None, Some(3)), Ok(vec![4, 5]));
        assert_eq!(page(Some(1000), Some(9)), Ok(vec![]));
        assert!(page(Some(0), None).is_err() && page(Some(1001), None).is_err());
    }

    #[test]
    fn a_disk_has_one_place() {
        let disk = DiskAnswer {
            node: "n".to_owned(),
            store: 3,
            path: "/dev/disk/by-id/a".to_owned(),
            ..DiskAnswer::default()
        };
        assert_eq!(place_in("n/3//dev/disk/by-id/a"), Ok(place_of(&disk)));
        assert!(place_in("n/3/").is_ok(), "a node that is away says no path");
        for odd in ["", "n", "n/3", "n/x/", "//"] {
            assert!(place_in(odd).is_err(), "{odd}");
        }
    }
}
