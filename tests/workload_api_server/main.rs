//! The tests' Workload API server, to be used by hand.

use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use grpcio::RpcStatusCode;
use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, JWTSVID, WITSVID, X509SVIDResponse};
use workload_api_server::authority::{Authority, KeyType, Recipe, bytes, jwt_response};
use workload_api_server::fault::{FAULTS, Fault};
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::{WitRecipe, wit_bundles, wit_response};

const HELP: &str = "\
A Workload API server for tests: mints a CA and SVIDs, rotates them, and misbehaves on demand.

Usage: workload-api-server (--socket PATH | --tcp) [option]...

  --socket PATH        serve on this Unix socket
  --tcp                serve on a free loopback port, which is printed
  --id ID[=HINT]       offer an SVID for this SPIFFE ID; repeatable
                       (default spiffe://example.org/workload)
  --key-type TYPE      p256, p384, rsa2048 or ed25519 (default p256)
  --ca-key FILE        sign with the CA key in this file, which is made if it is
                       not there: a server that starts again has the same CA
  --intermediate       sign with an intermediate CA
  --ttl SECONDS        how long an SVID is valid (default 3600)
  --rotate SECONDS     rotate by itself, this often
  --jwt-ttl SECONDS    how long a JWT-SVID is valid (default 300)
  --wit STATE          WIT-SVIDs: on, off or silent (default off)
  --federate DOMAIN    add the bundle of this trust domain; repeatable
  --fault NAME         start with this fault
  --help               this text

It reads commands from its input, a line each:
  rotate               new SVIDs for all
  prepare-ca           a new CA joins the bundle
  activate-ca          new SVIDs, signed by the newest CA
  drop-ca              the older CAs leave the bundle
  list                 a revocation list of each CA joins the response
  revoke SERIAL        the lists revoke this certificate too (hexadecimal)
  fault NAME           misbehave from now on
  once NAME            misbehave at the next call
  good                 behave again
  quit                 stop; the end of the input changes nothing

Faults:
";

struct Settings {
    socket: Option<PathBuf>,
    tcp: bool,
    ids: Vec<(String, String)>,
    key_type: KeyType,
    ca_key: Option<PathBuf>,
    intermediate: bool,
    ttl: Duration,
    jwt_ttl: Duration,
    wit: Wit,
    rotate: Option<Duration>,
    federate: Vec<String>,
    fault: Option<Fault>,
}

/// What it says to calls for WIT-SVIDs.
#[derive(Clone, Copy)]
enum Wit {
    On,
    Off,
    Silent,
}

fn main() -> ExitCode {
    match settings() {
        Ok(Some(settings)) => {
            serve(&settings);
            ExitCode::SUCCESS
        }
        Ok(None) => {
            print!("{HELP}");
            FAULTS.iter().for_each(|fault| println!("  {}", fault.name));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("workload-api-server: {error}");
            ExitCode::from(2)
        }
    }
}

fn settings() -> Result<Option<Settings>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut settings = Settings {
        socket: None,
        tcp: false,
        ids: Vec::new(),
        key_type: KeyType::P256,
        ca_key: None,
        intermediate: false,
        ttl: Duration::from_secs(3600),
        jwt_ttl: Duration::from_secs(300),
        wit: Wit::Off,
        rotate: None,
        federate: Vec::new(),
        fault: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("socket") => settings.socket = Some(parser.value()?.into()),
            Long("tcp") => settings.tcp = true,
            Long("id") => {
                let value = parser.value()?.string()?;
                let (id, hint) = value.split_once('=').unwrap_or((&value, ""));
                settings.ids.push((id.to_owned(), hint.to_owned()));
            }
            Long("key-type") => {
                let name = parser.value()?.string()?;
                let found = KeyType::ALL.iter().find(|(known, _)| *known == name);
                settings.key_type = found.ok_or("--key-type takes p256, p384, rsa2048 or ed25519")?.1;
            }
            Long("ca-key") => settings.ca_key = Some(parser.value()?.into()),
            Long("intermediate") => settings.intermediate = true,
            Long("ttl") => settings.ttl = Duration::from_secs(parser.value()?.parse()?),
            Long("jwt-ttl") => settings.jwt_ttl = Duration::from_secs(parser.value()?.parse()?),
            Long("wit") => {
                settings.wit = match parser.value()?.string()?.as_str() {
                    "on" => Wit::On,
                    "off" => Wit::Off,
                    "silent" => Wit::Silent,
                    _ => return Err("--wit takes on, off or silent".into()),
                };
            }
            Long("rotate") => settings.rotate = Some(Duration::from_secs_f64(parser.value()?.parse()?)),
            Long("federate") => settings.federate.push(parser.value()?.string()?),
            Long("fault") => settings.fault = Some(fault_named(&parser.value()?.string()?)?),
            other => return Err(other.unexpected()),
        }
    }
    if settings.socket.is_none() && !settings.tcp {
        return Err("--socket or --tcp is needed; --help explains".into());
    }
    if settings.ids.is_empty() {
        settings.ids.push(("spiffe://example.org/workload".to_owned(), String::new()));
    }
    Ok(Some(settings))
}

fn fault_named(name: &str) -> Result<Fault, String> {
    Fault::named(name).ok_or_else(|| format!("there is no fault {name:?}; --help lists them"))
}

fn serve(settings: &Settings) {
    let mut authorities = Authorities::new(settings);
    let start = match settings.fault {
        Some(fault) => fault.reply(authorities.active(), &recipes(settings)[0]),
        None => Reply::offer(&authorities.response(settings)),
    };
    // A helper that waits for the socket asks at once, and for what is Unimplemented no more.
    let set_up = |server: &WorkloadApiServer| {
        serve_jwt(settings, server);
        serve_wit(settings, server);
    };
    let server = match &settings.socket {
        Some(path) => WorkloadApiServer::on_socket_after(path, start, set_up),
        None => WorkloadApiServer::on_loopback_after(start, set_up),
    };
    match &settings.socket {
        Some(path) => println!("serving on {}", path.display()),
        None => println!("serving on tcp://127.0.0.1:{}", server.port()),
    }
    let commands = commands();
    let mut rotation = settings.rotate.map(|every| Instant::now() + every);
    loop {
        let patience = rotation.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let command = match commands.recv_timeout(patience) {
            Ok(command) => command,
            Err(_) => {
                rotation = settings.rotate.map(|every| Instant::now() + every);
                "rotate".to_owned()
            }
        };
        match command.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["quit"] => return,
            ["rotate" | "good"] => {}
            ["prepare-ca"] => authorities.all.push(new_authority(settings)),
            ["activate-ca"] => authorities.active = authorities.all.len() - 1,
            ["drop-ca"] => authorities.drop_inactive(),
            ["list"] => _ = authorities.revoked.get_or_insert_default(),
            ["revoke", serial] => authorities.revoked.get_or_insert_default().push(bytes(serial)),
            [when @ ("fault" | "once"), name] => {
                match fault_named(name) {
                    Ok(fault) => {
                        let reply = fault.reply(authorities.active(), &recipes(settings)[0]);
                        if *when == "once" { server.reply_once(reply) } else { server.reply(reply) }
                    }
                    Err(error) => println!("{error}"),
                }
                continue;
            }
            _ => {
                println!("no such command: {command:?}");
                continue;
            }
        }
        server.offer(&authorities.response(settings));
    }
}

/// Issues JWT-SVIDs for the same IDs, always good ones.
fn serve_jwt(settings: &Settings, server: &WorkloadApiServer) {
    let authority = new_authority(settings);
    let mut bundles = JWTBundlesResponse::new();
    bundles.bundles.insert(authority.id(), authority.jwks());
    for federated in settings.federate.iter().map(|trust_domain| Authority::new(trust_domain)) {
        bundles.bundles.insert(federated.id(), federated.jwks());
    }
    server.reply_with_jwt_bundles(Reply::offer(&bundles));
    let (ids, ttl) = (settings.ids.clone(), settings.jwt_ttl);
    server.issue_jwt(move |request| {
        let wanted = ids.iter().filter(|(id, _)| request.spiffe_id.is_empty() || *id == request.spiffe_id);
        let svids: Vec<_> = wanted
            .map(|(id, hint)| JWTSVID {
                hint: hint.clone(),
                ..authority.mint_jwt(id, &request.audience, ttl)
            })
            .collect();
        match svids.is_empty() {
            true => Reply::Refuse(RpcStatusCode::PERMISSION_DENIED, "no identity issued".to_owned()),
            false => Reply::offer(&jwt_response(svids)),
        }
    });
}

/// Offers WIT-SVIDs for the same IDs, always good ones. A rotation leaves them as they are.
fn serve_wit(settings: &Settings, server: &WorkloadApiServer) {
    let authority = new_authority(settings);
    let (svids, bundles) = match settings.wit {
        Wit::Off => return,
        // As an agent whose server has the profile turned off.
        Wit::Silent => (Reply::Silence, r#"{"keys":[]}"#.to_owned()),
        Wit::On => {
            let mint = |(id, hint): &(String, String)| WITSVID {
                hint: hint.clone(),
                ..WitRecipe::for_id(id).ttl(settings.ttl).mint(&authority)
            };
            let jwks = String::from_utf8(authority.jwks()).expect("JSON");
            (wit_response(settings.ids.iter().map(mint)), jwks)
        }
    };
    server.reply_with_wit(svids);
    server.reply_with_wit_bundles(wit_bundles([(authority.id().as_str(), bundles.as_str())]));
}

/// The trust domain's CAs: all are in the bundle, one signs.
struct Authorities {
    all: Vec<Authority>,
    active: usize,
    /// The serial numbers that the revocation lists have, once there are lists.
    revoked: Option<Vec<Vec<u8>>>,
}

impl Authorities {
    fn new(settings: &Settings) -> Self {
        let first = match &settings.ca_key {
            Some(file) => Authority::with_key_in(file, trust_domain(settings)),
            None => Authority::new(trust_domain(settings)),
        };
        Self { all: vec![of_settings(first, settings)], active: 0, revoked: None }
    }

    fn active(&self) -> &Authority {
        &self.all[self.active]
    }

    fn drop_inactive(&mut self) {
        self.all = vec![self.all.swap_remove(self.active)];
        self.active = 0;
    }

    fn response(&self, settings: &Settings) -> X509SVIDResponse {
        let mut response = self.active().response(&recipes(settings));
        for svid in &mut response.svids {
            svid.bundle = self.all.iter().flat_map(Authority::bundle).collect();
        }
        let lists = self.revoked.iter().flat_map(|revoked| {
            self.all.iter().map(|authority| authority.crl_of_serials(revoked, Duration::ZERO))
        });
        response.crl = lists.collect();
        for trust_domain in &settings.federate {
            let federated = Authority::new(trust_domain);
            response.federated_bundles.insert(federated.id(), federated.bundle());
        }
        response
    }
}

fn new_authority(settings: &Settings) -> Authority {
    of_settings(Authority::new(trust_domain(settings)), settings)
}

fn of_settings(authority: Authority, settings: &Settings) -> Authority {
    if settings.intermediate { authority.with_intermediate() } else { authority }
}

fn trust_domain(settings: &Settings) -> &str {
    settings.ids[0].0.trim_start_matches("spiffe://").split('/').next().unwrap_or("example.org")
}

fn recipes(settings: &Settings) -> Vec<Recipe> {
    let recipe = |(id, hint): &(String, String)| {
        Recipe::for_id(id).hint(hint).key_type(settings.key_type).ttl(settings.ttl)
    };
    settings.ids.iter().map(recipe).collect()
}

/// The lines of the input; the channel stays open after its end.
fn commands() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in
            std::io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty())
        {
            let _ = sender.send(line);
        }
        std::thread::park();
    });
    receiver
}
