//! Long answers, made piece by piece as the client reads them. However long the list is, a
//! connection holds one piece of it, and slow clients do not hold up others.

use super::{
    answer::{Answer, NoAnswer, answer, ask, streamed},
    gzip::{Gzip, mark},
    peer::Answering,
};
use crate::{
    enforce::{StateKey, States},
    report::{
        Reporter,
        metrics::{PIECE, Place},
        own::{KillNames, OwnKill},
        requests::StatesRequest,
    },
};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use herder_model::owner::id::PodUid;
use hyper::{StatusCode, body::Frame};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Containers of one piece; their texts are short, unless paths are long.
const CONTAINERS: usize = 32;

/// Where an answer goes on.
pub(super) enum Pieces {
    Metrics { reporter: Arc<Reporter>, place: Place },
    Kills(Kills),
    OwnKills(OwnKills),
    Containers { core: mpsc::Sender<StatesRequest>, after: Option<StateKey> },
}

/// A JSON array of kills, the newest first.
pub(super) struct Kills {
    pub(super) reporter: Arc<Reporter>,
    /// Those with smaller numbers,
    pub(super) before: u64,
    /// and larger ones.
    pub(super) after: u64,
}

/// The same of those of one pod.
pub(super) struct OwnKills {
    pub(super) reporter: Arc<Reporter>,
    pub(super) pod: PodUid,
    pub(super) names: KillNames,
    /// Those with smaller numbers,
    pub(super) before: u64,
    /// so many at most.
    pub(super) most: usize,
}

/// Some of an answer.
struct Piece {
    text: Vec<u8>,
    /// What comes after it, if anything does.
    rest: Option<Pieces>,
}

impl Pieces {
    /// The answer: with its length, if one piece is all of it.
    pub(super) async fn answer(
        self,
        kind: &'static str,
        mut gzip: Option<Gzip>,
        answering: Answering,
    ) -> Result<Answer, NoAnswer> {
        let is_encoded = gzip.is_some();
        let Piece { text, rest } = self.next_encoded(true, &mut gzip).await?;
        let mut answer = match rest {
            None => answer(StatusCode::OK, kind, text),
            Some(rest) => streamed(kind, Self::all(text, rest, gzip, answering)),
        };
        mark(&mut answer, is_encoded);
        Ok(answer)
    }

    fn all(
        first: Vec<u8>,
        rest: Pieces,
        gzip: Option<Gzip>,
        answering: Answering,
    ) -> BoxStream<'static, Result<Frame<Bytes>, NoAnswer>> {
        let state = (Some(rest), gzip, answering);
        let others = stream::unfold(state, |(rest, mut gzip, answering)| async {
            let (piece, rest) = match rest?.next_encoded(false, &mut gzip).await {
                Ok(Piece { text, rest }) => (Ok(text), rest),
                // The connection breaks, so that the client does not take a part for the whole.
                Err(error) => (Err(error), None),
            };
            Some((piece, (rest, gzip, answering)))
        });
        let all = stream::iter([Ok(first)]).chain(others);
        all.map(|piece| piece.map(|text| Frame::data(Bytes::from(text)))).boxed()
    }

    /// The next piece, and those after it as long as the encoder gives nothing for them.
    async fn next_encoded(self, first: bool, gzip: &mut Option<Gzip>) -> Result<Piece, NoAnswer> {
        let Piece { mut text, mut rest } = self.next(first).await?;
        let Some(gzip) = gzip else { return Ok(Piece { text, rest }) };
        loop {
            text = gzip.encode(&text, rest.is_none());
            match rest {
                Some(more) if text.is_empty() => Piece { text, rest } = more.next(false).await?,
                rest => return Ok(Piece { text, rest }),
            }
        }
    }

    async fn next(self, first: bool) -> Result<Piece, NoAnswer> {
        match self {
            Pieces::Metrics { reporter, place } => {
                let (text, rest) = reporter.metrics().piece(place);
                let rest = rest.map(|place| Pieces::Metrics { reporter, place });
                Ok(Piece { text: text.into(), rest })
            }
            Pieces::Kills(kills) => Ok(kills.next(first)),
            Pieces::OwnKills(kills) => Ok(kills.next(first)),
            Pieces::Containers { core, after } => {
                let question = |answer| StatesRequest { after, most: CONTAINERS, answer };
                let States { states, next } = ask(&core, question).await?;
                let mut text = Vec::new();
                states.iter().enumerate().for_each(|(at, state)| {
                    push(&mut text, first && at == 0, state);
                });
                let rest = next.map(|after| Pieces::Containers { core, after: Some(after) });
                end(&mut text, first, rest.is_some());
                Ok(Piece { text, rest })
            }
        }
    }
}

impl Kills {
    fn next(mut self, first: bool) -> Piece {
        let mut text = Vec::new();
        let mut rest = true;
        while text.len() < PIECE {
            let kill = self.reporter.kill_before(self.before);
            let Some(kill) = kill.filter(|kill| kill.id > self.after) else {
                rest = false;
                break;
            };
            let begins = first && text.is_empty();
            push(&mut text, begins, &*kill);
            self.before = kill.id;
        }
        end(&mut text, first, rest);
        Piece { text, rest: rest.then_some(Pieces::Kills(self)) }
    }
}

impl OwnKills {
    fn next(mut self, first: bool) -> Piece {
        let mut text = Vec::new();
        let mut rest = true;
        while text.len() < PIECE {
            let kill = self.reporter.kill_before(self.before).filter(|_| self.most > 0);
            let Some(kill) = kill else {
                rest = false;
                break;
            };
            self.before = kill.id;
            if let Some(own) = OwnKill::new(&kill, self.pod, &self.names) {
                let begins = first && text.is_empty();
                push(&mut text, begins, &own);
                self.most -= 1;
            }
        }
        end(&mut text, first, rest);
        Piece { text, rest: rest.then_some(Pieces::OwnKills(self)) }
    }
}

/// Appends an element of an array.
fn push(text: &mut Vec<u8>, first: bool, element: &impl serde::Serialize) {
    text.push(if first { b'[' } else { b',' });
    if let Err(error) = serde_json::to_writer(&mut *text, element) {
        // Plain data, for which this does not happen.
        tracing::error!(%error, "Cannot write a part of an answer.");
    }
}

/// Ends the array, unless there is more.
fn end(text: &mut Vec<u8>, first: bool, more: bool) {
    if first && text.is_empty() {
        text.push(b'[');
    }
    if !more {
        text.push(b']');
    }
}
