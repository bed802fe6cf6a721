//! Keys, certificates and the connections that follow from them, without a network.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::certificate::caller_in;
use std::path::PathBuf;
use std::sync::Arc;
use world::{Caller, Limits, Role};

/// A folder that goes at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("azekura-identity-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn fill(&self, authority: &Authority, role: Role, name: &str, days: u32) -> Arc<Credentials> {
        self.fill_trusting(authority, role, name, days, authority.certificate())
    }

    fn fill_trusting(
        &self,
        authority: &Authority,
        role: Role,
        name: &str,
        days: u32,
        authorities: &str,
    ) -> Arc<Credentials> {
        let key = KeyRequest::make().unwrap();
        let caller = Caller::new(role, name.to_owned());
        let signed = authority.sign(&key.request, &caller, days).unwrap();
        let folder = self.0.join(format!("{role}-{name}"));
        key.store(&folder, &signed, authorities).unwrap();
        Credentials::read(&folder).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Shakes hands in memory. Both verdicts, the server's with whom it saw.
fn meet(client: Arc<Loaded>, server: &Loaded) -> (Result<(), String>, Result<Caller, String>) {
    meet_as(client.client.clone(), server)
}

fn meet_as(
    client: Arc<rustls::ClientConfig>,
    server: &Loaded,
) -> (Result<(), String>, Result<Caller, String>) {
    let mut near = rustls::ClientConnection::new(client, credentials::node_name()).unwrap();
    let mut far = server.answer().unwrap();
    let (mut seen_near, mut seen_far) = (Ok(()), Ok(()));
    for _ in 0..5 {
        let mut wire = Vec::new();
        while near.wants_write() {
            near.write_tls(&mut wire).unwrap();
        }
        far.read_tls(&mut &wire[..]).unwrap();
        seen_far = seen_far.and(far.process_new_packets().map(drop));
        let mut wire = Vec::new();
        while far.wants_write() {
            far.write_tls(&mut wire).unwrap();
        }
        near.read_tls(&mut &wire[..]).unwrap();
        seen_near = seen_near.and(near.process_new_packets().map(drop));
    }
    let text = |error: rustls::Error| error.to_string();
    let caller = || caller_of(far.peer_certificates().unwrap_or_default());
    let far = seen_far
        .map_err(text)
        .and_then(|()| caller().map_err(|error| error.to_string()));
    (seen_near.map_err(text), far)
}

#[test]
fn both_sides_know_each_other_by_certificates_of_one_authority() {
    let folder = Folder::new("both");
    let authority = Authority::make("prod").unwrap();
    let node = folder.fill(&authority, Role::Node, "n1", NODE_DAYS);
    let client = folder.fill(&authority, Role::Client, "h1", CLIENT_DAYS);
    let (near, far) = meet(client.current(), &node.current());
    assert_eq!(near, Ok(()));
    assert_eq!(far, Ok(Caller::new(Role::Client, "h1".to_owned())));
    let file = folder.0.join("node-n1").join(IDENTITY_FILE);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn another_authority_is_not_believed_by_either_side() {
    let folder = Folder::new("other");
    let (ours, theirs) = (
        Authority::make("prod").unwrap(),
        Authority::make("prod").unwrap(),
    );
    let node = folder.fill(&ours, Role::Node, "n1", NODE_DAYS);
    let stranger = folder.fill(&theirs, Role::Node, "n2", NODE_DAYS);
    let (near, _) = meet(stranger.current(), &node.current());
    assert!(near.unwrap_err().contains("UnknownIssuer"));
    // One that believes the node, and is not believed.
    let both = ours.certificate().to_owned() + theirs.certificate();
    let liar = folder.fill_trusting(&theirs, Role::Node, "n3", NODE_DAYS, &both);
    let (_, far) = meet(liar.current(), &node.current());
    assert!(far.unwrap_err().contains("UnknownIssuer"));
}

#[test]
fn a_client_is_no_server() {
    let folder = Folder::new("role");
    let authority = Authority::make("prod").unwrap();
    for role in [Role::Admin, Role::Viewer, Role::Csi, Role::Client] {
        let fake = folder.fill(&authority, role, "x", CLIENT_DAYS);
        let node = folder.fill(&authority, Role::Node, "n1", NODE_DAYS);
        let (near, _) = meet(node.current(), &fake.current());
        assert!(near.is_err(), "{role} passed for a node");
    }
}

#[test]
fn a_certificate_ends_by_itself() {
    let folder = Folder::new("expired");
    let authority = Authority::make("prod").unwrap();
    let node = folder.fill(&authority, Role::Node, "n1", NODE_DAYS);
    let late = folder.fill(&authority, Role::Client, "late", 0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (_, far) = meet(late.current(), &node.current());
    assert!(far.unwrap_err().contains("xpired"));
}

#[test]
fn whoever_shows_nothing_is_refused_but_by_the_api() {
    let folder = Folder::new("nothing");
    let authority = Authority::make("prod").unwrap();
    let node = folder.fill(&authority, Role::Node, "n1", NODE_DAYS);
    let bare = pinned_client(authority.fingerprint()).unwrap();
    let (near, far) = meet_as(bare, &node.current());
    assert!(near.unwrap_err().contains("CertificateRequired"));
    assert!(far.unwrap_err().contains("no certificates"));
}

#[test]
fn a_pin_believes_its_authority_alone() {
    let folder = Folder::new("pin");
    let authority = Authority::make("prod").unwrap();
    let node = folder
        .fill(&authority, Role::Node, "n1", NODE_DAYS)
        .current();
    let meet = |pin: &str| {
        let server = rustls::ServerConnection::new(node.open_server.clone());
        drop(server);
        meet_as(
            pinned_client(pin).unwrap(),
            &Loaded {
                server: node.open_server.clone(),
                ..copy(&node)
            },
        )
        .0
    };
    assert_eq!(meet(authority.fingerprint()), Ok(()));
    let other = Authority::make("prod").unwrap();
    assert!(
        meet(other.fingerprint())
            .unwrap_err()
            .contains("another cluster")
    );
}

fn copy(from: &Loaded) -> Loaded {
    Loaded {
        hosts: Vec::new(),
        caller: from.caller.clone(),
        from: from.from,
        until: from.until,
        issuer: from.issuer.clone(),
        authorities: from.authorities.clone(),
        client: from.client.clone(),
        server: from.server.clone(),
        open_server: from.open_server.clone(),
        verifier: from.verifier.clone(),
    }
}

#[test]
fn a_new_authority_is_believed_by_those_who_know_the_old_one_until_it_is_dropped() {
    let folder = Folder::new("rotate");
    let old = Authority::make("prod").unwrap();
    let new = old.successor("prod").unwrap();
    let new = Authority::parse(&new.to_pem()).unwrap();
    assert_ne!(old.fingerprint(), new.fingerprint());
    let both = old.certificate().to_owned() + new.certificate();
    let client = folder.fill(&old, Role::Client, "old", CLIENT_DAYS);
    let fresh = folder.fill(&new, Role::Client, "new", CLIENT_DAYS);
    let node = folder.fill_trusting(&new, Role::Node, "n1", NODE_DAYS, &both);
    assert_eq!(meet(client.current(), &node.current()).0, Ok(()));
    assert!(meet(client.current(), &node.current()).1.is_ok());
    assert!(meet(fresh.current(), &node.current()).1.is_ok());
    // The old one is dropped: the files change, and the next connection sees it.
    write_public(&node.folder().join(AUTHORITIES_FILE), new.certificate()).unwrap();
    assert!(meet(client.current(), &node.current()).1.is_err());
    assert!(meet(fresh.current(), &node.current()).1.is_ok());
}

#[test]
fn changed_files_that_are_damaged_leave_the_old_ones_in_force() {
    let folder = Folder::new("damaged");
    let authority = Authority::make("prod").unwrap();
    let node = folder.fill(&authority, Role::Node, "n1", NODE_DAYS);
    let until = node.current().until;
    write_private(&node.folder().join(IDENTITY_FILE), "nonsense").unwrap();
    assert_eq!(node.current().until, until);
    assert!(Credentials::read(node.folder()).is_err());
}

#[test]
fn a_key_that_everybody_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("readable");
    let authority = Authority::make("prod").unwrap();
    let node = folder.fill(&authority, Role::Node, "n1", NODE_DAYS);
    let file = node.folder().join(IDENTITY_FILE);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Credentials::read(node.folder()).err().unwrap();
    assert!(
        matches!(refused, IdentityError::Readable { .. }),
        "{refused}"
    );
    let missing = Credentials::read(&folder.0.join("missing")).err().unwrap();
    assert!(matches!(missing, IdentityError::File { .. }), "{missing}");
}

#[test]
fn limits_are_in_the_certificate_and_unknown_ones_make_it_nobodys() {
    let authority = Authority::make("prod").unwrap();
    let request = KeyRequest::make().unwrap();
    let names = |count: usize| (0..count).map(|index| format!("c-{index}")).collect();
    let sign = |containers: usize, kubernetes: usize| {
        let caller = Caller {
            limits: Arc::new(Limits {
                containers: names(containers),
                kubernetes: names(kubernetes),
            }),
            ..Caller::new(Role::Csi, "driver")
        };
        let signed = authority.sign(&request.request, &caller, 1)?;
        let chain = split("it", &signed)?;
        Ok::<_, IdentityError>((caller_of(&chain)?, caller))
    };
    for (containers, kubernetes) in [(0, 0), (1, 0), (0, 1), (2, 3), (32, 32)] {
        let (found, wanted) = sign(containers, kubernetes).unwrap();
        assert_eq!(found, wanted);
    }
    assert!(sign(32, 33).is_err(), "too many");
    let own = "azekura:csi:driver";
    assert_eq!(caller_in(&[own]), Some(Caller::new(Role::Csi, "driver")));
    let of_others = caller_in(&[own, "spiffe://example.org/driver"]);
    assert_eq!(of_others, Some(Caller::new(Role::Csi, "driver")));
    for odd in [
        "azekura-limit:volume:v",
        "azekura-limit:container:",
        "azekura-limit:container",
        "azekura:csi:other",
    ] {
        assert_eq!(caller_in(&[own, odd]), None, "{odd}");
    }
    assert_eq!(caller_in(&["azekura-limit:container:gold"]), None);
}

#[test]
fn a_request_that_was_changed_is_not_signed() {
    let authority = Authority::make("prod").unwrap();
    let caller = Caller::new(Role::Node, "n1".to_owned());
    assert!(authority.sign("nonsense", &caller, 1).is_err());
    let mine = KeyRequest::make().unwrap();
    let other = KeyRequest::make().unwrap();
    let signed = authority.sign(&mine.request, &caller, 1).unwrap();
    let folder = Folder::new("changed");
    assert!(
        other
            .store(&folder.0, &signed, authority.certificate())
            .is_err()
    );
}

/// What is signed has another key every time: the samples are those of the day they were made.
#[test]
fn fuzz_corpus_of_certificates() {
    let target = fuzz::target!("certificate");
    let authority = Authority::make("prod").unwrap();
    let chain = split("it", authority.certificate()).unwrap();
    let committed = target.sample("authority", &chain[0]);
    Certificate::parse(&committed).expect("the certificate of an authority");
    let caller = Caller::new(Role::Node, "n1".to_owned());
    let request = KeyRequest::make().unwrap();
    let signed = authority.sign(&request.request, &caller, 1).unwrap();
    let chain = split("it", &signed).unwrap();
    let committed = target.sample("node", &chain[0]);
    Certificate::parse(&committed).expect("the certificate of a node");
    target.play(|bytes| drop(Certificate::parse(bytes)));
}

#[test]
fn fuzz_corpus_of_files() {
    let target = fuzz::target!("pem");
    let authority = Authority::make("prod").unwrap();
    let committed = target.sample("authority", authority.certificate().as_bytes());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(split("it", &text(&committed)).unwrap().len(), 1);
    let request = KeyRequest::make().unwrap();
    target.sample("request", request.request.as_bytes());
    let caller = Caller::new(Role::Client, "h1".to_owned());
    target.play(|bytes| {
        let text = text(bytes);
        let _ = split("it", &text);
        let _ = Authority::parse(&text);
        let _ = authority.sign(&text, &caller, 1);
    });
}

proptest::proptest! {
    #[test]
    fn fuzz_certificate(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        let _ = Certificate::parse(&bytes);
    }

    #[test]
    fn fuzz_files(text in "(-----BEGIN (CERTIFICATE|PRIVATE KEY)-----\n)?[A-Za-z0-9+/=\n]{0,300}(-----END CERTIFICATE-----\n)?") {
        let _ = Authority::parse(&text);
        let _ = split("it", &text);
    }
}

#[test]
fn what_was_shown_is_doubted_once_its_authority_is_not_believed() {
    let folder = Folder::new("shown");
    let (old, new) = (
        Authority::make("prod").unwrap(),
        Authority::make("prod").unwrap(),
    );
    let both = old.certificate().to_owned() + new.certificate();
    let node = folder.fill_trusting(&new, Role::Node, "n1", NODE_DAYS, &both);
    let chain = |authority: &Authority, name: &str| {
        folder.fill(authority, Role::Client, name, CLIENT_DAYS);
        let file = folder.0.join(format!("client-{name}")).join(IDENTITY_FILE);
        split("it", &std::fs::read_to_string(file).unwrap()).unwrap()
    };
    let before = Shown::new(node.clone(), &chain(&old, "h1"));
    let after = Shown::new(node.clone(), &chain(&new, "h2"));
    let nothing = Shown::new(node.clone(), &[]);
    assert!(before.is_believed() && after.is_believed());
    assert!(!nothing.is_believed());
    assert_ne!(before.fingerprint(), after.fingerprint());
    assert_eq!((after.fingerprint().len(), nothing.fingerprint()), (64, ""));
    let authorities = folder.0.join("node-n1").join(AUTHORITIES_FILE);
    write_public(&authorities, new.certificate()).unwrap();
    assert!(before.is_believed(), "nobody has looked at the files yet");
    node.current();
    assert!(!before.is_believed());
    assert!(after.is_believed());
}

/// A certificate that another authority has signed, for this host; both files are one.
fn public_of(folder: &Folder, authority: &Authority, host: &str) -> PathBuf {
    let key = KeyRequest::make_for(&[host.to_owned()]).unwrap();
    let caller = Caller::new(Role::Node, "web".to_owned());
    let signed = authority.sign(&key.request, &caller, 90).unwrap();
    let web = folder.0.join(format!("web-{host}"));
    key.store(&web, &signed, authority.certificate()).unwrap();
    web
}

/// What a client that believes these roots and asks for a name is shown.
fn shown_to(
    roots: Arc<rustls::RootCertStore>,
    name: &'static str,
    server: Arc<rustls::ServerConfig>,
) -> Result<Vec<u8>, String> {
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name).unwrap();
    let mut near = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut far = rustls::ServerConnection::new(server).unwrap();
    for _ in 0..5 {
        let mut wire = Vec::new();
        while near.wants_write() {
            near.write_tls(&mut wire).unwrap();
        }
        far.read_tls(&mut &wire[..]).unwrap();
        let _ = far.process_new_packets();
        let mut wire = Vec::new();
        while far.wants_write() {
            far.write_tls(&mut wire).unwrap();
        }
        near.read_tls(&mut &wire[..]).unwrap();
        near.process_new_packets()
            .map_err(|error| error.to_string())?;
    }
    let chain = near.peer_certificates().expect("it was shown one");
    Ok(chain[0].to_vec())
}

fn roots_of(authority: &Authority) -> Arc<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    for root in split("an authority", authority.certificate()).unwrap() {
        roots.add(root).unwrap();
    }
    Arc::new(roots)
}

#[test]
fn who_asks_for_a_name_of_the_public_certificate_is_shown_it_and_others_the_clusters() {
    const HOST: &str = "storage.example.org";
    let folder = Folder::new("public");
    let (cluster, web) = (
        Authority::make("prod").unwrap(),
        Authority::make("web").unwrap(),
    );
    let node = folder.fill(&cluster, Role::Node, "n1", NODE_DAYS);
    let files = public_of(&folder, &web, HOST);
    let file = files.join(IDENTITY_FILE);
    let public = PublicCertificate::read(&file, &file).unwrap();
    let server = public.beside(&node.current().open_server);
    let chain = split("web", &std::fs::read_to_string(&file).unwrap()).unwrap();
    let until = Certificate::parse(&chain[0]).unwrap().until;
    assert_eq!(Ok(public.until_ms() / 1000), u64::try_from(until));
    let (of_web, of_cluster) = (roots_of(&web), roots_of(&cluster));
    let first = shown_to(of_web.clone(), HOST, server.clone()).unwrap();
    assert!(public.is_of(Some(HOST)) && !public.is_of(Some(NODE_NAME)) && !public.is_of(None));
    let own = shown_to(of_cluster.clone(), NODE_NAME, server.clone()).unwrap();
    assert_ne!(first, own);
    // A certificate of the cluster does not hold for other names, whoever believes it.
    assert!(shown_to(of_cluster, "elsewhere.example.org", server.clone()).is_err());
    assert!(shown_to(of_web.clone(), NODE_NAME, server).is_err());

    // Renewed files count without a restart; files that cannot be used do not.
    let renewed = public_of(&folder, &web, HOST).join(IDENTITY_FILE);
    assert_eq!(renewed, file);
    let again = public.beside(&node.current().open_server);
    let second = shown_to(of_web.clone(), HOST, again).unwrap();
    assert_ne!(first, second);
    write_private(&file, "no certificate").unwrap();
    let kept = public.beside(&node.current().open_server);
    assert_eq!(shown_to(of_web, HOST, kept), Ok(second));
}

#[test]
fn a_public_certificate_that_cannot_be_shown_is_refused_with_the_reason() {
    let folder = Folder::new("odd-public");
    let web = Authority::make("web").unwrap();
    let one = public_of(&folder, &web, "one.example.org").join(IDENTITY_FILE);
    let other = public_of(&folder, &web, "other.example.org").join(IDENTITY_FILE);
    let problem = |chain: &PathBuf, key: &PathBuf| {
        let read = PublicCertificate::read(chain, key);
        read.expect_err("it cannot be shown").to_string()
    };
    let told = problem(&one, &other);
    assert!(told.contains("not the key of"), "{told}");
    let missing = folder.0.join("nothing.pem");
    assert!(problem(&one, &missing).contains("nothing.pem"));
    let no_key = folder.0.join("certificate.pem");
    write_private(&no_key, web.certificate()).unwrap();
    assert!(problem(&one, &no_key).contains("no private key"));
    write_public(&other, &std::fs::read_to_string(&one).unwrap()).unwrap();
    assert!(problem(&one, &other).contains("chmod 600"));
}
