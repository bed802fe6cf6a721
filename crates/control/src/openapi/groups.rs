//! Routes of placement groups and clones.

use super::describe::Describe;
use super::table::{ALL, LOOKING};
use api::ErrorKind::NotFound;
use api::{CloneAnswer, GroupAnswer, GroupQuery, ListQuery};
use utoipa::openapi::path::HttpMethod::Get;

/// Where data is, and what shares it.
pub(super) fn groups() -> Vec<Describe> {
    vec![
        Describe::new(
            Get,
            "/groups",
            "group-list",
            "Placement groups: the stores that hold the same data, and what is missing",
        )
        .query::<GroupQuery>(&[])
        .list::<GroupAnswer>("Groups, by id")
        .scopes(LOOKING),
        Describe::new(Get, "/groups/{id}", "group-show", "One placement group")
            .named("id", "Id of the group, with or without `group-`")
            .answer::<GroupAnswer>("The group")
            .problems(&[NotFound])
            .scopes(LOOKING),
        Describe::new(
            Get,
            "/clones",
            "clone-list",
            "Volumes that were started from others; `POST /volumes` with `from` makes one",
        )
        .query::<ListQuery>(&[])
        .list::<CloneAnswer>("Clones, by id unless another order is asked for")
        .problems(&[NotFound])
        .scopes(ALL),
    ]
}
