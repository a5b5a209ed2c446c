//! A JWT-SVID: fetched, and fetched again at half of its life.

use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use log::Level;
use zeroize::Zeroizing;

use super::status::Unusable;
use super::{Part, Pursuit, Source, Status, follow, selection};
use crate::backoff::Backoff;
use crate::identity::jwt_svid::JwtSvid;
use crate::identity::offered::OfferedJwtSvid;
use crate::identity::selection::Selection;
use crate::identity::term::time_left;
use crate::logging::retrying_in;
use crate::options::Options;
use crate::options::value::JwtSvidFile;
use crate::store::layout::File;
use crate::timestamp::rfc3339;
use crate::wait::Waiter;
use crate::workload_api::client::Client;
use crate::workload_api::procedure::FetchJwtSvid;
use crate::workload_api::watch::Watch;

/// Between calls, while the agent hands out a token whose half-life is over.
const OVERDUE_CALL: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));
/// Between calls at the least, however short a token's life.
const BETWEEN_CALLS: Duration = Duration::from_secs(1);

/// One JWT-SVID, and where it goes.
pub struct JwtSvidPart<'a> {
    options: &'a Options,
    file: &'a JwtSvidFile,
    selection: Selection,
    watch: Watch<'a, FetchJwtSvid>,
    /// After a good response: no call before this, even if it is time to renew.
    not_before: Instant,
    overdue_backoff: Backoff,
    status: Status,
}

impl<'a> JwtSvidPart<'a> {
    pub(super) fn new(
        options: &'a Options,
        file: &'a JwtSvidFile,
        waiter: &'a Waiter,
        client: Client,
        pursuit: Pursuit,
    ) -> Self {
        let procedure = FetchJwtSvid { audience: file.audience.clone(), id: options.pod_spiffe_id.clone() };
        Self {
            options,
            file,
            selection: selection(options),
            watch: Watch::new(waiter, client, procedure),
            not_before: Instant::now(),
            overdue_backoff: OVERDUE_CALL,
            status: Status::new(format!("JWT-SVID {}: ", file.name), pursuit, options.on_revoked),
        }
    }

    /// The identity is withdrawn: has the file removed, if that is what is wanted, and asks the
    /// agent whether there is a token all the same.
    pub(super) fn withdraw(&mut self) {
        self.status.withdraw();
        if self.watch.is_idle() {
            self.watch.call_at(Instant::now());
        }
    }

    /// When to call again.
    fn renew_at(&self) -> Option<Instant> {
        let term = self.status.newest().filter(|_| self.watch.is_idle())?;
        Some((Instant::now() + time_left(term.half_life_at())).max(self.not_before))
    }
}

impl<'a> Source<'a> for JwtSvidPart<'a> {
    type Procedure = FetchJwtSvid;

    fn watch(&mut self) -> &mut Watch<'a, FetchJwtSvid> {
        &mut self.watch
    }

    fn take(&mut self, offered: Vec<OfferedJwtSvid>) -> Result<(), Unusable> {
        let now = SystemTime::now();
        let svids = offered.into_iter().enumerate().map(|(index, svid)| {
            let id = svid.spiffe_id.clone();
            JwtSvid::parse(svid, &self.file.audience, now)
                .map_err(|flaw| Unusable::Rejected(format!("svids[{index}] ({id:?}) {flaw}")))
        });
        let svids = svids.collect::<Result<Vec<_>, _>>()?;
        if svids.is_empty() {
            return Err(Unusable::Rejected("svids: the mandatory field is empty".to_owned()));
        }
        let svid =
            self.selection.pick(svids).map_err(|error| Unusable::not_offered(error, &self.selection))?;
        let term = svid.term().clone();
        if term.is_expired(now) {
            return Err(Unusable::Expired(term));
        }
        let wait = match term.half_life_at() > now {
            true => {
                self.overdue_backoff.reset();
                self.status.recovered(&self.options.workload_api_socket);
                BETWEEN_CALLS
            }
            // It is a token of earlier; the agent cannot get a new one just now.
            false => {
                let wait = self.overdue_backoff.advance();
                let (id, end) = (&term.id, rfc3339(term.not_after, 0));
                let message = format!(
                    "the agent hands out a token of {id} (valid until {end}) that is due for renewal"
                );
                self.status.complain(Level::Warn, &message, &retrying_in(wait));
                wait
            }
        };
        self.not_before = Instant::now() + wait;
        self.watch.settle();
        let contents = Zeroizing::new(svid.token().as_bytes().to_vec());
        let file = File { name: self.file.name.clone(), mode: self.options.jwt_file_mode, contents };
        self.status.offer(vec![file], Some(term));
        Ok(())
    }

    fn discard(&mut self, unusable: &Unusable) {
        let next = retrying_in(self.watch.back_off());
        self.status.complain(Level::Error, &unusable.to_string(), &next);
    }
}

impl Part for JwtSvidPart<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        follow(self, context)
    }

    fn wake_at(&self) -> Option<Instant> {
        [self.watch.wake_at(), self.renew_at(), self.status.expires_at()].into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        if self.renew_at().is_some_and(|at| at <= Instant::now()) {
            self.watch.call_at(Instant::now());
        }
        self.status.report_expiry();
    }

    fn owns(&self, name: &str) -> bool {
        name == self.file.name.as_str()
    }

    fn describe(&self) -> String {
        let name = &self.file.name;
        match self.status.newest() {
            Some(term) => {
                let (id, audience) = (&term.id, self.file.audience.join(", "));
                let end = rfc3339(term.not_after, 0);
                format!("the JWT-SVID of {id} for {audience} (valid until {end}) as {name}")
            }
            None => format!("the JWT-SVID {name}"),
        }
    }

    fn silence(&self) -> String {
        self.watch.silence()
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn status_mut(&mut self) -> &mut Status {
        &mut self.status
    }
}
