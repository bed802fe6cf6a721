//! Nodes that join, and the authority that signs for the cluster.

use super::{Body, Shared, bytes};
use crate::auth::Access;
use crate::reply::{Reply, parse, parse_or_default};
use crate::server::Peer;
use crate::{Digest, make_secret};
use api::{
    Answer, JoinRequest, JoinTokenAnswer, JoinTokenSpec, Operation, OperationError, Retirement,
};
use axum::Extension;
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use identity::JoinToken;

/// Their routes, but for joining itself, which needs no other right than its token.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/join-tokens", post(token_create))
        .route("/authority", get(authority))
        .route("/authority/rotate", post(rotate))
        .route("/authority/retire", post(retire))
}

/// Makes the secret here, so that it never gets further than this answer.
async fn token_create(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let spec = bytes(body).and_then(|body| parse_or_default::<JoinTokenSpec>(&headers, &body));
    let made = make_secret().map_err(|cause| {
        OperationError::failed(format!("no token can be made without randomness: {cause}"))
    });
    let (spec, secret) = match (spec, made) {
        (Ok(spec), Ok(secret)) => (spec, secret),
        (Err(error), _) | (_, Err(error)) => return error.into(),
    };
    let hash = Digest::of(&secret).to_hex();
    match shared.call(Operation::JoinTokenCreate { spec, hash }).await {
        Ok(Answer::JoinToken(answer)) => {
            let token = JoinToken {
                fingerprint: answer.fingerprint.clone(),
                secret,
                addresses: answer.addresses.clone(),
            };
            Reply::from(Ok(Answer::JoinToken(JoinTokenAnswer {
                token: Some(token.to_string()),
                ..answer
            })))
        }
        other => other.into(),
    }
}

/// Who has a token to join needs nothing else: it is looked up, used up and forgotten by the operation.
pub(super) async fn join(
    State(shared): State<Shared>,
    from: Option<Extension<ConnectInfo<Peer>>>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let from = from.map(|Extension(ConnectInfo(peer))| peer.from.to_string());
    let asked = bytes(body).and_then(|body| parse::<JoinRequest>(&headers, &body));
    match asked {
        Ok(asked) => {
            let operation = Operation::NodeJoin {
                hash: Digest::of(&asked.secret).to_hex(),
                name: asked.name,
                request: asked.request,
                stores: asked.stores,
            };
            let access = Access {
                who: "a token to join".to_owned(),
                ..Access::nobody(from.unwrap_or_default())
            };
            let result = shared.carry_out(operation.clone()).await;
            shared.note(&access, &operation, None, &result);
            result.into()
        }
        Err(error) => error.into(),
    }
}

async fn authority(State(shared): State<Shared>) -> Reply {
    shared.reply(Ok(Operation::AuthorityShow)).await
}

async fn rotate(State(shared): State<Shared>, headers: HeaderMap) -> Reply {
    let asked = crate::reply::require_json(&headers);
    shared
        .reply(asked.map(|()| Operation::AuthorityRotate))
        .await
}

async fn retire(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Reply {
    let asked = bytes(body).and_then(|body| parse_or_default::<Retirement>(&headers, &body));
    shared.reply(asked.map(Operation::AuthorityRetire)).await
}
