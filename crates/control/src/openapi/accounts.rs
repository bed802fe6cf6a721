//! The routes of users, their sessions and the audit log: what they take, what they answer, who may ask.

use super::describe::Describe;
use super::table::{ADMIN, DONE, LOOKING, OPERATING};
use api::ErrorKind::{
    Exists, Failed, Forbidden, NotFound, Refused, Throttled, Unauthenticated, Unavailable,
};
use api::{
    AuditEntry, AuditQuery, Login, OpenSessionAnswer, PasswordChange, SessionAnswer, SessionQuery,
    UserAnswer, UserChange, UserQuery, UserSpec,
};
use utoipa::openapi::Required::True;
use utoipa::openapi::path::HttpMethod::{Delete, Get, Patch, Post};

pub(super) fn accounts() -> Vec<Describe> {
    const USER: &str = "Name of the user";
    vec![
        Describe::new(Get, "/users", "user-list", "Everybody who can log in")
            .query::<UserQuery>(&[])
            .list::<UserAnswer>("Users, by name")
            .scopes(ADMIN),
        Describe::new(Post, "/users", "user-create", "Makes a user")
            .body::<UserSpec>(True)
            .tagged()
            .answer::<UserAnswer>("The user")
            .problems(&[Exists, Refused, Throttled])
            .keyless()
            .scopes(ADMIN),
        Describe::new(Get, "/users/{name}", "user-show", "One user")
            .named("name", USER)
            .tagged()
            .known()
            .answer::<UserAnswer>("The user")
            .problems(&[NotFound])
            .scopes(ADMIN),
        Describe::new(
            Patch,
            "/users/{name}",
            "user-set",
            "Changes role or password, which ends the user's sessions",
        )
        .named("name", USER)
        .body::<UserChange>(True)
        .tagged()
        .conditional()
        .answer::<UserAnswer>("The user as it is now")
        .problems(&[NotFound, Refused, Throttled])
        .keyless()
        .scopes(ADMIN),
        Describe::new(
            Delete,
            "/users/{name}",
            "user-delete",
            "Deletes a user, whose sessions end with that",
        )
        .named("name", USER)
        .conditional()
        .object(DONE)
        .problems(&[NotFound, Refused])
        .scopes(ADMIN),
    ]
}

pub(super) fn sessions() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/session", "session-show", "Who asks")
            .answer::<SessionAnswer>("Who, and what may be asked for")
            .problems(&[Unavailable, Failed])
            .scopes(&[]),
        Describe::new(
            Post,
            "/session",
            "session-create",
            "Logs in: the answer sets the cookie of the session",
        )
        .body::<Login>(True)
        .answer::<SessionAnswer>("Who has logged in, and until when")
        .problems(&[Unauthenticated, Forbidden, Throttled, Unavailable, Failed])
        .scopes(&[]),
        Describe::new(
            Delete,
            "/session",
            "session-delete",
            "Logs out: the session is refused from now on",
        )
        .object(DONE)
        .problems(&[Forbidden, Unavailable, Failed])
        .scopes(&[]),
        Describe::new(
            Post,
            "/session/password",
            "session-password",
            "Changes one's own password, which ends all of one's sessions",
        )
        .body::<PasswordChange>(True)
        .tagged()
        .answer::<UserAnswer>("The user as it is now")
        .problems(&[Throttled])
        .keyless()
        .scopes(LOOKING),
        Describe::new(
            Get,
            "/sessions",
            "session-list",
            "Sessions that count, the newest first: of all users for an administrator, one's own for everybody else",
        )
        .query::<SessionQuery>(&[])
        .list::<OpenSessionAnswer>("Sessions")
        .scopes(LOOKING),
        Describe::new(
            Delete,
            "/sessions/{id}",
            "session-end",
            "Ends a session: one's own, or as an administrator anybody's",
        )
        .named("id", "Id of the session, as the list has it")
        .object(DONE)
        .problems(&[NotFound])
        .scopes(LOOKING),
        Describe::new(
            Get,
            "/audit",
            "audit-list",
            "Who has changed what, newest first",
        )
        .query::<AuditQuery>(&[])
        .list::<AuditEntry>("Entries")
        .scopes(OPERATING),
    ]
}
