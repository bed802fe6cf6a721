//! The routes of Kubernetes clusters: what they take, what they answer, who may ask.

use super::describe::Describe;
use super::table::{ALL, DONE, DRIVING, LOOKING, OPERATING};
use api::ErrorKind::{Exists, NotFound, Refused};
use api::{
    ClaimQuery, ClaimsAnswer, KubernetesAnswer, KubernetesListAnswer, KubernetesQuery,
    KubernetesReport, ReportedAnswer,
};
use utoipa::openapi::Required::True;
use utoipa::openapi::path::HttpMethod::{Delete, Get, Put};

const CLUSTER: &str = "Name of the Kubernetes cluster";

/// All of them.
pub(super) fn kubernetes() -> Vec<Describe> {
    vec![
        Describe::new(
            Get,
            "/kubernetes",
            "kubernetes-list",
            "Kubernetes clusters that drivers report of, or that labels of volumes name",
        )
        .query::<KubernetesQuery>(&[])
        .answer::<KubernetesListAnswer>("They, by name")
        .scopes(LOOKING),
        Describe::new(
            Get,
            "/kubernetes/{cluster}",
            "kubernetes-show",
            "One Kubernetes cluster",
        )
        .named("cluster", CLUSTER)
        .answer::<KubernetesAnswer>("The Kubernetes cluster")
        .problems(&[NotFound])
        .scopes(ALL),
        Describe::new(
            Get,
            "/kubernetes/{cluster}/claims",
            "kubernetes-claims",
            "Its claims, and the volumes they have here",
        )
        .named("cluster", CLUSTER)
        .query::<ClaimQuery>(&[])
        .answer::<ClaimsAnswer>("Claims by namespace, name and uid")
        .problems(&[NotFound])
        .scopes(ALL),
        Describe::new(
            Put,
            "/kubernetes/{cluster}/report",
            "kubernetes-report",
            "Takes over what changed in a Kubernetes cluster: for its driver. A repeat changes nothing",
        )
        .named("cluster", CLUSTER)
        .body::<KubernetesReport>(True)
        .answer::<ReportedAnswer>("How many claims are known now")
        .problems(&[Exists, Refused])
        .scopes(DRIVING),
        Describe::new(
            Delete,
            "/kubernetes/{cluster}",
            "kubernetes-forget",
            "Forgets what was reported of a Kubernetes cluster. Its volumes stay",
        )
        .named("cluster", CLUSTER)
        .object(DONE)
        .problems(&[NotFound])
        .scopes(OPERATING),
    ]
}
