//! The routes of alerts: what they take, what they answer, who may ask.

use super::describe::Describe;
use super::table::{ADMIN, DONE, LOOKING, OPERATING};
use api::ErrorKind::{Exists, NotFound, Refused};
use api::{
    AlertAnswer, AlertNote, AlertQuery, AlertTargetAnswer, AlertTargetSpec, AlertsAnswer,
    TargetQuery,
};
use utoipa::openapi::Required::{False, True};
use utoipa::openapi::path::HttpMethod::{Delete, Get, Post};

const ALERT: &str = "Id of the alert";
const TARGET: &str = "Name of the target";

/// What is wrong.
pub(super) fn alerts() -> Vec<Describe> {
    let act = |action: &str, summary: &str| {
        let path = format!("/alerts/{{id}}/{action}");
        Describe::new(Post, &path, &format!("alert-{action}"), summary)
            .named("id", ALERT)
            .body::<AlertNote>(False)
            .answer::<AlertAnswer>("The alert as it is now")
            .problems(&[NotFound, Refused])
            .scopes(OPERATING)
    };
    vec![
        Describe::new(Get, "/alerts", "alert-list", "What is wrong, or was")
            .query::<AlertQuery>(&[])
            .answer::<AlertsAnswer>("Alerts, newest first")
            .scopes(LOOKING),
        Describe::new(Get, "/alerts/{id}", "alert-show", "One alert")
            .named("id", ALERT)
            .answer::<AlertAnswer>("The alert")
            .problems(&[NotFound])
            .scopes(LOOKING),
        act("acknowledge", "Says that somebody has seen an alert"),
        act("resolve", "Ends an alert that does not end by itself"),
    ]
}

/// Who is told.
pub(super) fn targets() -> Vec<Describe> {
    vec![
        Describe::new(
            Get,
            "/alert-targets",
            "alert-target-list",
            "Who is told of alerts, without secrets",
        )
        .query::<TargetQuery>(&[])
        .list::<AlertTargetAnswer>("Targets, by name")
        .scopes(LOOKING),
        Describe::new(
            Post,
            "/alert-targets",
            "alert-target-add",
            "Tells somebody of what changes from now on",
        )
        .body::<AlertTargetSpec>(True)
        .tagged()
        .answer::<AlertTargetAnswer>("The target, without secrets")
        .problems(&[Exists, Refused])
        .scopes(ADMIN),
        Describe::new(
            Get,
            "/alert-targets/{name}",
            "alert-target-show",
            "One who is told of alerts, without secrets",
        )
        .named("name", TARGET)
        .tagged()
        .known()
        .answer::<AlertTargetAnswer>("The target")
        .problems(&[NotFound])
        .scopes(LOOKING),
        Describe::new(
            Delete,
            "/alert-targets/{name}",
            "alert-target-delete",
            "Tells somebody no more",
        )
        .named("name", TARGET)
        .conditional()
        .object(DONE)
        .problems(&[NotFound])
        .scopes(ADMIN),
        Describe::new(
            Post,
            "/alert-targets/{name}/test",
            "alert-target-test",
            "Sends a test message, and answers once it is delivered",
        )
        .named("name", TARGET)
        .object(DONE)
        .problems(&[NotFound, Refused])
        .scopes(OPERATING),
    ]
}
