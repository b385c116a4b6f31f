//! One request through the gate: what the rules say is done to it, to its forwarding and to its reply.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION};
use http::header::{HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::body::{Boxed, Ending, Failure, Passing, Spoil, whole};
use super::facts::{Facts, hash};
use super::late::Late;
use super::log::{Record, costs};
use super::refusal::{Answer, Refusal};
use super::rule::{Action, ServerDate};
use super::shared::{Older, Shared};
use super::sign::sign;
use super::wire::Control;

/// What becomes of the client's connection.
enum Outcome {
    Reply(Box<Response<Passing>>),
    Close,
    Reset,
    Silence,
}

/// Serves one request. An error closes the connection.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    control: Arc<Control>,
    request: Request<Incoming>,
) -> Result<Response<Passing>, Failure> {
    let (parts, incoming) = request.into_parts();
    let mut body = Payload::Stream(incoming.map_err(Failure::from).boxed_unsync());
    if parts.headers.contains_key("x-amz-target") {
        body.collect().await?;
    }
    let facts = Facts::of(&parts, body.bytes().map(|bytes| &**bytes));
    let record = Arc::new(shared.log.open(&facts));
    let actions = shared.decide(&facts);
    record.note(|entry| {
        entry.action = actions.iter().map(Action::name).collect::<Vec<_>>().join("+");
    });
    // A request that something happens to is read first, so that it lives on when its client does not wait for it.
    if actions.iter().any(|action| !matches!(action, Action::Throttle(_))) {
        body.collect().await?;
    }
    if let Some(bytes) = body.bytes() {
        let length = bytes.len() as u64;
        record.note(|entry| entry.bytes_in = length);
    }
    let exchange =
        Exchange { shared: shared.clone(), control: control.clone(), parts, facts, actions, record };
    let (answer, answered) = oneshot::channel();
    let pending = shared.pending();
    tokio::spawn(async move {
        let outcome = exchange.run(body).await;
        drop(pending);
        let _ = answer.send(outcome);
    });
    match answered.await? {
        Outcome::Reply(response) => Ok(*response),
        Outcome::Close => Err("the gate closes the connection".into()),
        Outcome::Reset => {
            control.reset();
            Err("the gate resets the connection".into())
        }
        Outcome::Silence => std::future::pending().await,
    }
}

/// The body of a request.
enum Payload {
    Whole(Bytes),
    Stream(Boxed),
}

impl Payload {
    async fn collect(&mut self) -> Result<(), Failure> {
        if let Self::Stream(body) = self {
            let collected = std::mem::replace(body, whole(Bytes::new())).collect().await?;
            *self = Self::Whole(collected.to_bytes());
        }
        Ok(())
    }

    fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Stream(_) => None,
        }
    }
}

struct Exchange {
    shared: Arc<Shared>,
    control: Arc<Control>,
    parts: Parts,
    facts: Facts,
    actions: Vec<Action>,
    record: Arc<Record>,
}

impl Exchange {
    async fn run(mut self, body: Payload) -> Outcome {
        for action in std::mem::take(&mut self.actions) {
            self.shared.hit(&action);
            let request_body = body.bytes().map(|bytes| &**bytes).unwrap_or_default();
            match &action {
                Action::Delay(delay) => tokio::time::sleep(*delay).await,
                Action::Hold => self.shared.hold().await,
                Action::Strip(header) => self.strip(&[header]),
                Action::ConditionOn => self.strip(&[IF_MATCH.as_str(), IF_NONE_MATCH.as_str()]),
                Action::Status(refusal) => return self.answer(refusal.answer(&self.facts, request_body)),
                Action::SignatureExpired => {
                    return self.answer(Refusal::Expired.answer(&self.facts, request_body));
                }
                Action::Answer(status, text) => {
                    return self.answer(Answer::new(*status, "text/plain", text.clone()));
                }
                Action::Redirect(status, to) => {
                    let path = self.parts.uri.path_and_query().map_or("/", |path| path.as_str());
                    let mut answer = Answer::new(*status, "text/plain", String::new());
                    answer.headers.push((LOCATION.as_str(), format!("{to}{path}")));
                    return self.answer(answer);
                }
                Action::DropBefore => return Outcome::Close,
                Action::Blackhole => return Outcome::Silence,
                _ => {}
            }
            self.actions.push(action);
        }
        let stale = self.actions.iter().find_map(|action| match action {
            Action::Stale(age) if !self.facts.is_watch => Some(*age),
            _ => None,
        });
        let question = self.question(&body);
        if let Some(older) = stale.and_then(|age| self.shared.older(question, age)) {
            return self.answer_again(older);
        }
        let Ok((parts, reply)) = self.ask(body).await else { return Outcome::Close };
        if stale.is_some()
            && let Payload::Whole(body) = &reply
        {
            self.shared.keep(question, &parts, body);
        }
        self.reply(parts, reply)
    }

    /// Forwards the request, twice where told so; the reply is whole unless it is that of a read that just passes.
    async fn ask(&self, body: Payload) -> Result<(response::Parts, Payload), Failure> {
        let duplicate = self.has(|action| matches!(action, Action::Duplicate));
        let again = body.bytes().cloned();
        let mut response = self.forward(self.parts.clone(), body).await?;
        if self.has(|action| matches!(action, Action::AcceptAbsentIfMatch))
            && let Some(bytes) = again.clone()
            && self.is_refused_for_absence(&response).await?
        {
            let mut parts = self.parts.clone();
            parts.headers.remove(IF_MATCH);
            self.sign(&mut parts);
            response = self.forward(parts, Payload::Whole(bytes)).await?;
        }
        let (parts, incoming) = response.into_parts();
        self.record.note(|entry| entry.status = Some(parts.status.as_u16()));
        let passes = matches!(self.parts.method, Method::GET | Method::HEAD) && !self.has(wants_whole_reply);
        let mut reply = Payload::Stream(incoming.map_err(Failure::from).boxed_unsync());
        if !passes || (self.has(|action| matches!(action, Action::Stale(_))) && !self.facts.is_watch) {
            reply.collect().await?;
        }
        if let Some(bytes) = reply.bytes().filter(|_| self.parts.headers.contains_key("x-amz-target")) {
            let (capacity, scanned) = costs(bytes);
            self.record.note(|entry| (entry.capacity, entry.scanned) = (capacity, scanned));
        }
        if duplicate && let Some(bytes) = again {
            // The second one is on its way while the client has the first one's reply.
            let second = self.forward(self.parts.clone(), Payload::Whole(bytes));
            let pending = self.shared.pending();
            tokio::spawn(async move {
                if let Ok(response) = second.await {
                    let _ = response.into_body().collect().await;
                }
                drop(pending);
            });
        }
        Ok((parts, reply))
    }

    fn forward(
        &self,
        mut parts: Parts,
        body: Payload,
    ) -> impl Future<Output = Result<Response<Incoming>, Failure>> + use<> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("{}{path}", self.shared.upstream.address()).parse().expect("it was one before");
        let spoil = Spoil { rate: self.rate(), flip: self.damage(), ..Spoil::default() };
        let body = match body {
            Payload::Whole(bytes) if spoil.rate.is_none() && spoil.flip.is_none() => whole(bytes),
            Payload::Whole(bytes) => {
                // Counted already.
                self.record.note(|entry| entry.bytes_in = 0);
                Passing::request(whole(bytes), spoil, self.record.clone()).boxed_unsync()
            }
            Payload::Stream(body) => Passing::request(body, spoil, self.record.clone()).boxed_unsync(),
        };
        let response = self.shared.client.request(Request::from_parts(parts, body));
        async move { Ok(response.await?) }
    }

    /// The reply, spoiled as told.
    fn reply(&self, mut parts: response::Parts, body: Payload) -> Outcome {
        let is_chunked = parts.headers.contains_key(TRANSFER_ENCODING);
        let (mut body, mut length) = match body {
            Payload::Whole(bytes) => {
                let length = bytes.len() as u64;
                (whole(bytes), Some(length))
            }
            Payload::Stream(body) => {
                let length = body.size_hint().exact();
                (body, length)
            }
        };
        let mut spoil = Spoil { rate: self.rate(), hush: self.shared.hush(), ..Spoil::default() };
        for action in &self.actions {
            match action {
                Action::DropReply => return self.over(Outcome::Close),
                Action::Swallow => return self.over(Outcome::Silence),
                Action::Flip(at) => spoil.flip = Some(*at),
                Action::Swap(other) => {
                    parts.headers.remove(TRANSFER_ENCODING);
                    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(other.len()));
                    body = whole(other.clone());
                    length = Some(other.len() as u64);
                }
                Action::Length(more) => {
                    let said = length.unwrap_or_default().saturating_add_signed(*more);
                    parts.headers.remove(TRANSFER_ENCODING);
                    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(said));
                    spoil.closes = true;
                }
                Action::Stale(late) if self.facts.is_watch => body = Late::new(body, *late).boxed_unsync(),
                Action::RewriteDate(date) => rewrite_date(&mut parts, date),
                _ => {
                    let Some((at, ending)) = early_end(action, length) else { continue };
                    match (length, ending) {
                        // There is no body to end in: the whole reply is withheld.
                        (Some(0), Ending::Close) => return self.over(Outcome::Close),
                        (Some(0), Ending::Reset) => return self.over(Outcome::Reset),
                        (Some(0), Ending::Silence) => return self.over(Outcome::Silence),
                        (Some(length), _) if at >= length => {}
                        _ => spoil.end = Some((at, ending)),
                    }
                }
            }
        }
        if length == Some(0) && !is_chunked {
            self.record.end();
        }
        let body = Passing::reply(body, spoil, self.control.clone(), self.record.clone());
        Outcome::Reply(Box::new(Response::from_parts(parts, body)))
    }

    /// A reply that does not come from the server.
    fn answer(&self, answer: Answer) -> Outcome {
        let mut response = Response::builder().status(answer.status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        let (parts, ()) = response.body(()).expect("a reply").into_parts();
        self.record.note(|entry| entry.status = Some(answer.status));
        self.reply(parts, Payload::Whole(answer.body))
    }

    fn answer_again(&self, older: Older) -> Outcome {
        self.shared.count("stale");
        let (mut parts, ()) = Response::new(()).into_parts();
        (parts.status, parts.headers) = (older.status, older.headers);
        self.record.note(|entry| entry.status = Some(parts.status.as_u16()));
        self.reply(parts, Payload::Whole(older.body))
    }

    fn over(&self, outcome: Outcome) -> Outcome {
        self.record.end();
        outcome
    }

    fn has(&self, is: impl Fn(&Action) -> bool) -> bool {
        self.actions.iter().any(is)
    }

    fn rate(&self) -> Option<u64> {
        self.actions.iter().find_map(|action| match action {
            Action::Throttle(rate) => Some(*rate),
            _ => None,
        })
    }

    fn damage(&self) -> Option<u64> {
        self.actions.iter().find_map(|action| match action {
            Action::Damage(at) => Some(*at),
            _ => None,
        })
    }

    /// What is asked, exactly.
    fn question(&self, body: &Payload) -> u64 {
        let range = self.parts.headers.get("range").map(HeaderValue::as_bytes).unwrap_or_default();
        let target = self.facts.operation.as_bytes();
        let bytes = body.bytes().map(|bytes| &**bytes).unwrap_or_default();
        let uri = self.parts.uri.to_string();
        hash(&[self.facts.method.as_bytes(), uri.as_bytes(), target, range, bytes].join(&b'\n'))
    }

    fn strip(&mut self, headers: &[&str]) {
        let mut parts = self.parts.clone();
        let mut changed = false;
        for name in headers {
            let name: HeaderName = name.parse().expect("the name of a header");
            changed |= parts.headers.remove(name).is_some();
        }
        if changed {
            self.sign(&mut parts);
        }
        self.parts = parts;
    }

    fn sign(&self, parts: &mut Parts) {
        if let Err(access_key) = sign(parts, |access_key| self.shared.secret(access_key)) {
            let why = format!(" (no secret known for '{access_key}')");
            self.record.note(|entry| entry.action.push_str(&why));
        }
    }

    /// Whether a PUT on condition was refused because there is nothing yet.
    async fn is_refused_for_absence(&self, response: &Response<Incoming>) -> Result<bool, Failure> {
        let conditional = self.parts.method == Method::PUT && self.parts.headers.contains_key(IF_MATCH);
        match response.status() {
            StatusCode::NOT_FOUND => Ok(conditional),
            StatusCode::PRECONDITION_FAILED if conditional => {
                let mut parts = self.parts.clone();
                parts.method = Method::HEAD;
                for name in [IF_MATCH, CONTENT_LENGTH, CONTENT_TYPE] {
                    parts.headers.remove(name);
                }
                self.sign(&mut parts);
                let found = self.forward(parts, Payload::Whole(Bytes::new())).await?;
                Ok(found.status() == StatusCode::NOT_FOUND)
            }
            _ => Ok(false),
        }
    }
}

fn wants_whole_reply(action: &Action) -> bool {
    matches!(action, Action::DropReply | Action::Swallow | Action::Cut | Action::Length(_))
}

fn early_end(action: &Action, length: Option<u64>) -> Option<(u64, Ending)> {
    match action {
        Action::Truncate(at) => Some((*at, Ending::Close)),
        Action::Cut => Some((length.unwrap_or_default().saturating_sub(1), Ending::Close)),
        Action::Stall(at) => Some((*at, Ending::Silence)),
        Action::Reset(at) => Some((*at, Ending::Reset)),
        _ => None,
    }
}

fn rewrite_date(parts: &mut response::Parts, date: &ServerDate) {
    let old = parts.headers.get(DATE).and_then(|value| value.to_str().ok());
    let new = match date {
        ServerDate::Fixed(date) => Some(date.clone()),
        ServerDate::Offset(seconds) => old.and_then(|old| {
            let time = jiff::fmt::rfc2822::parse(old).ok()?.timestamp();
            let time = time.checked_add(jiff::SignedDuration::from_secs(*seconds)).ok()?;
            Some(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        }),
    };
    if let Some(new) = new.and_then(|new| HeaderValue::try_from(new).ok()) {
        parts.headers.insert(DATE, new);
    }
}

/// How long a connection of the pool stays unused: shorter than any server keeps it.
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(2);
