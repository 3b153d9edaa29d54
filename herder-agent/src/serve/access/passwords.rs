//! Names and passwords of HTTP basic authentication, by bcrypt.
//!
//! bcrypt is made to be slow: a check takes tens of milliseconds at a cost of 10. So checks
//! are made one at a time, by a thread of their own that comes after all others of the agent,
//! and what was found right is remembered. A wrong name costs what a wrong password does. An address
//! that guesses has a few guesses at once, and then one a second.

use crate::serve::rate::Rate;
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};
use rustix::{process::setpriority_process, thread::gettid};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

/// Largest cost of a hash; a check then takes a second or two.
const MOST_COST: u32 = 14;

/// How long a check waits for those of others: less than a connection lasts, so that the client hears
/// why. The thread comes last on a busy node, and a check at the largest cost takes seconds.
const PATIENCE: Duration = Duration::from_secs(50);

/// Wrong passwords of one address that are checked at once, and how long it then waits for each. An
/// operator mistypes less often.
const GUESSES: (u32, Duration) = (16, Duration::from_secs(1));

/// An IPv6 network has so many times that. Each costs some tens of milliseconds.
const NETWORK: u32 = 4;

/// Names and passwords that are remembered.
const REMEMBERED: usize = 64;

/// Niceness of the thread: the least that the kernel gives.
const LAST: i32 = 19;

/// Whose password may open the port.
pub(super) struct Passwords {
    /// Names, and bcrypt's hashes of their passwords.
    users: BTreeMap<String, Arc<str>>,
    checks: mpsc::Sender<Check>,
    /// Who comes next. A client that goes leaves its place in the row, too.
    turn: Semaphore,
    guesses: Rate,
    right: Mutex<VecDeque<Vec<u8>>>,
    /// Of this process and these users alone, so that no password is kept in memory.
    secret: hmac::Key,
    /// As long as it is locked, no check ends.
    #[cfg(test)]
    pub(super) gate: Arc<Mutex<()>>,
}

struct Check {
    password: Vec<u8>,
    hash: Arc<str>,
    answer: oneshot::Sender<bool>,
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Right,
    Wrong,
    /// The checks of others take too long.
    Busy,
    /// Its address has guessed too often.
    TooOften,
}

/// Whether a text is a hash that can be checked in a bearable time.
pub(super) fn check_hash(hash: &str) -> Result<(), String> {
    let no_hash = "this is no hash of bcrypt, such as `htpasswd -nBC 10 \"\"` makes";
    let parts: bcrypt::HashParts = hash.parse().map_err(|error| format!("{no_hash}: {error}"))?;
    if hash.starts_with("$2x$") {
        return Err("hashes of bcrypt's version 2x cannot be checked; make a new one".into());
    }
    match parts.get_cost() {
        4..=MOST_COST => Ok(()),
        cost => Err(format!("the hash has cost {cost}; 4 to {MOST_COST} are checked, 10 is usual")),
    }
}

impl Passwords {
    /// Starts the thread, which ends when this is dropped.
    pub(super) fn start(users: &BTreeMap<String, String>) -> io::Result<Self> {
        let secret = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("the kernel has no random numbers"))?;
        let (checks, mut waiting) = mpsc::channel::<Check>(1);
        #[cfg(test)]
        let gate = Arc::<Mutex<()>>::default();
        #[cfg(test)]
        let gate_of_thread = gate.clone();
        thread::Builder::new().name("passwords".into()).spawn(move || {
            // Where it is forbidden, the thread is one like others.
            let _ = setpriority_process(Some(gettid()), LAST);
            while let Some(check) = waiting.blocking_recv() {
                // The client may have gone.
                if !check.answer.is_closed() {
                    let right = bcrypt::verify(&check.password, &check.hash).unwrap_or(false);
                    #[cfg(test)]
                    drop(gate_of_thread.lock());
                    let _ = check.answer.send(right);
                }
            }
        })?;
        let users = users.iter().map(|(name, hash)| (name.clone(), hash.as_str().into())).collect();
        let (turn, (burst, every)) = (Semaphore::new(1), GUESSES);
        let (guesses, right) = (Rate::new(burst, every, NETWORK), Mutex::default());
        Ok(Passwords {
            users,
            checks,
            turn,
            guesses,
            right,
            secret,
            #[cfg(test)]
            gate,
        })
    }

    /// How many users there are.
    pub(super) fn count(&self) -> usize {
        self.users.len()
    }

    /// Whether they are these.
    pub(super) fn are_of(&self, users: &BTreeMap<String, String>) -> bool {
        let own = self.users.iter().map(|(name, hash)| (name.as_str(), &**hash));
        own.eq(users.iter().map(|(name, hash)| (name.as_str(), hash.as_str())))
    }

    /// Checks the value of the header `Authorization` that came from this address.
    pub(super) async fn check(&self, header: &[u8], address: IpAddr) -> Checked {
        let Some((name, password)) = credentials(header) else { return Checked::Wrong };
        let tag = self.tag(&name, &password);
        if self.with(|right| right.contains(&tag)) {
            return Checked::Right;
        }
        let user = self.users.get(&name);
        let Some(hash) = user.or_else(|| self.decoy(&name)) else { return Checked::Wrong };
        if !self.guesses.take(address) {
            return Checked::TooOften;
        }
        let (answer, answered) = oneshot::channel();
        let check = Check { password, hash: hash.clone(), answer };
        let is_right = {
            let Ok(_turn) = timeout(PATIENCE, self.turn.acquire()).await else {
                return Checked::Busy;
            };
            // The thread may still be at a check whose client has gone.
            if self.checks.send(check).await.is_err() {
                return Checked::Busy;
            }
            answered.await.unwrap_or(false)
        };
        if !is_right || user.is_none() {
            return Checked::Wrong;
        }
        self.guesses.put_back(address);
        self.with(|right| {
            if !right.contains(&tag) {
                right.truncate(REMEMBERED - 1);
                right.push_front(tag);
            }
        });
        Checked::Right
    }

    /// The hash that stands for that of a name that there is not: always the same one, and
    /// one that costs what those of others do.
    fn decoy(&self, name: &str) -> Option<&Arc<str>> {
        let tag = hmac::sign(&self.secret, name.as_bytes());
        let number =
            tag.as_ref().iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte));
        self.users.values().nth(number % self.users.len().max(1))
    }

    fn tag(&self, name: &str, password: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(&name.len().to_le_bytes());
        context.update(name.as_bytes());
        context.update(password);
        context.sign().as_ref().to_vec()
    }

    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<Vec<u8>>) -> T) -> T {
        work(&mut self.right.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Neither names nor hashes belong into a log.
impl fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} users", self.users.len())
    }
}

/// Name and password of `Basic …` (RFC 7617).
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut name = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.pop();
    Some((String::from_utf8(name).ok()?, password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::net::Ipv4Addr;

    /// Of "secret", with the least cost.
    const HASH: &str = "$2b$04$0pKvXgKkXyBM3qH2XeSvWeXeZqWvQe1w1yQfUdZlZ4V0cTQ0m8m2W";

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn header(name: &str, password: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))).into_bytes()
    }

    fn of(users: &[(&str, &str)]) -> Passwords {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let users = users.iter().map(|(name, password)| ((*name).into(), hash(password)));
        Passwords::start(&users.collect()).unwrap()
    }

    #[tokio::test]
    async fn the_right_password_of_the_right_name() {
        let passwords = of(&[("prometheus", "secret"), ("ä", "a:b")]);
        let table: [(Vec<u8>, Checked); 10] = [
            (header("prometheus", "secret"), Checked::Right),
            (header("prometheus", "secret"), Checked::Right),
            (header("ä", "a:b"), Checked::Right),
            (header("prometheus", "a:b"), Checked::Wrong),
            (header("stranger", "secret"), Checked::Wrong),
            (header("", ""), Checked::Wrong),
            (b"Bearer x".to_vec(), Checked::Wrong),
            (b"Basic ".to_vec(), Checked::Wrong),
            (b"basic !".to_vec(), Checked::Wrong),
            (b"".to_vec(), Checked::Wrong),
        ];
        for (header, checked) in table {
            assert_eq!(passwords.check(&header, HERE).await, checked, "{}", header.escape_ascii());
        }
        assert_eq!(passwords.with(|right| right.len()), 2, "only what is right is remembered");
        assert_eq!(format!("{passwords:?}"), "2 users");
    }

    /// Otherwise the time of an answer would reveal which names there are.
    #[tokio::test]
    async fn a_wrong_name_is_checked_as_a_wrong_password_is() {
        let passwords = of(&[("a", "x"), ("b", "y")]);
        for name in ["stranger", "c", ""] {
            let decoy = passwords.decoy(name).unwrap();
            assert_eq!(passwords.decoy(name), Some(decoy), "the same each time");
            assert!(passwords.users.values().any(|hash| hash == decoy));
        }
        // Also if it hits the password of another.
        for password in ["x", "y"] {
            assert_eq!(passwords.check(&header("stranger", password), HERE).await, Checked::Wrong);
        }
    }

    #[tokio::test]
    async fn as_many_are_remembered_as_there_is_room_for() {
        let users: BTreeMap<_, _> = (0..REMEMBERED + 5)
            .map(|number| (number.to_string(), bcrypt::hash("x", 4).unwrap()))
            .collect();
        let passwords = Passwords::start(&users).unwrap();
        for name in users.keys() {
            assert_eq!(passwords.check(&header(name, "x"), HERE).await, Checked::Right);
        }
        assert_eq!(passwords.with(|right| right.len()), REMEMBERED);
    }

    /// Each has asked while another check was made, and is gone.
    #[tokio::test]
    async fn clients_that_have_gone_keep_no_other_waiting() {
        let hash = bcrypt::hash("secret", 8).unwrap();
        let passwords = Passwords::start(&BTreeMap::from([("a".into(), hash)])).unwrap();
        for guess in 0..200 {
            let host = IpAddr::from([127, 1, 0, u8::try_from(guess).unwrap()]);
            let gone = passwords.check(&header("a", &guess.to_string()), host).now_or_never();
            assert_eq!(gone, None, "it waits for the first");
        }
        assert_eq!(passwords.check(&header("a", "secret"), HERE).await, Checked::Right);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_guesses_waits_and_others_do_not() {
        let passwords = of(&[("a", "secret"), ("b", "other")]);
        let right = header("a", "secret");
        assert_eq!(passwords.check(&right, HERE).await, Checked::Right);
        for guess in 0..GUESSES.0 {
            let guess = header("a", &guess.to_string());
            assert_eq!(passwords.check(&guess, HERE).await, Checked::Wrong);
        }
        let guess = passwords.check(&header("b", "other"), HERE).await;
        assert_eq!(guess, Checked::TooOften, "a right one may be a guess too");
        assert_eq!(passwords.check(&right, HERE).await, Checked::Right, "it is known");
        let there = IpAddr::from([127, 0, 0, 2]);
        for _ in 0..3 * GUESSES.0 {
            assert_eq!(passwords.check(&header("b", "other"), there).await, Checked::Right);
        }
    }

    #[test]
    fn hashes_that_cannot_be_checked_are_named() {
        assert_eq!(check_hash(HASH), Ok(()));
        for (hash, part) in [
            ("secret", "no hash of bcrypt"),
            ("", "no hash of bcrypt"),
            (&HASH.replace("$04$", "$15$"), "cost 15; 4 to 14"),
            (&HASH.replace("$04$", "$31$"), "cost 31"),
            (&HASH.replace("$04$", "$03$"), "cost 3"),
            (&HASH.replace("$2b$", "$2x$"), "version 2x"),
        ] {
            let error = check_hash(hash).unwrap_err();
            assert!(error.contains(part) && !error.contains("0pKv"), "{error}");
        }
    }
}
