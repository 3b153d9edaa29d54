//! Bundles that are there, come late and never come; the clock stands still while one is read.

use super::*;
use herder_model::owner::id::PodUid;
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

fn id(number: usize) -> ContainerId {
    ContainerId::parse(&format!("{number:064x}")).unwrap()
}

fn request(number: usize) -> RoleRequest {
    let pod = PodUid::parse("2c39abf0-f543-4c05-8cfe-3839410aef01").unwrap();
    RoleRequest { of: ContainerOfPod { pod, container: id(number) }, just_made: false }
}

/// Bundles of which each comes at its own look, and how often each was looked for.
#[derive(Clone, Default)]
struct Fake {
    looks: Arc<Mutex<HashMap<ContainerId, usize>>>,
    /// Those that come, and at which look.
    come_at: Arc<HashMap<ContainerId, usize>>,
}

impl Fake {
    fn new(come_at: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let come_at = come_at.into_iter().map(|(number, at)| (id(number), at)).collect();
        Fake { come_at: Arc::new(come_at), ..Fake::default() }
    }

    fn look(&self, container: ContainerId) -> Looked {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = looks.entry(container).or_default();
        *looks += 1;
        match self.come_at.get(&container) {
            Some(at) if at <= looks => Looked::Role(ContainerRole::Sandbox),
            _ => Looked::NotYet,
        }
    }

    fn looks(&self, number: usize) -> usize {
        *self.looks.lock().unwrap().get(&id(number)).unwrap_or(&0)
    }

    fn start(&self) -> (RoleRequests, mpsc::Receiver<Vec<FoundRole>>) {
        let (requests, lookups, roles) = channel();
        let fake = self.clone();
        tokio::spawn(lookups.run(move |container| fake.look(container)));
        (requests, roles)
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_is_read_once() {
    let fake = Fake::new([(1, 1)]);
    let (requests, mut roles) = fake.start();
    requests.ask(request(1));
    let expected = FoundRole { request: request(1), role: ContainerRole::Sandbox };
    assert_eq!(roles.recv().await, Some(vec![expected]));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(fake.looks(1), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_comes_late_is_looked_for_again() {
    let fake = Fake::new([(1, 3)]);
    let (requests, mut roles) = fake.start();
    let begin = Instant::now();
    requests.ask(request(1));
    assert_eq!(roles.recv().await.unwrap()[0].request, request(1));
    let waited = begin.elapsed();
    assert!(waited >= PAUSES[0] + PAUSES[1] && waited < PAUSES[2], "{waited:?}");
    assert_eq!(fake.looks(1), 3);
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_never_comes_is_given_up() {
    let fake = Fake::default();
    let (requests, mut roles) = fake.start();
    requests.ask(request(1));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(fake.looks(1), PAUSES.len() + 1);
    drop(requests);
    assert_eq!(roles.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn bundles_that_are_no_pods_are_not_looked_for_again() {
    let (requests, lookups, mut roles) = channel();
    let looks = Arc::new(Mutex::new(0));
    let counted = looks.clone();
    tokio::spawn(lookups.run(move |_| {
        *counted.lock().unwrap() += 1;
        Looked::Nothing
    }));
    requests.ask(request(1));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(*looks.lock().unwrap(), 1);
    drop(requests);
    assert_eq!(roles.recv().await, None);
}

/// All at once, as the first walk asks for them.
#[tokio::test(start_paused = true)]
async fn each_of_4096_containers_is_read_once() {
    let fake = Fake::new((0..MOST).map(|number| (number, 1)));
    let (requests, mut roles) = fake.start();
    for number in 0..MOST {
        requests.ask(request(number));
    }
    let mut found = HashSet::new();
    while found.len() < MOST {
        for role in roles.recv().await.unwrap() {
            assert!(found.insert(role.request.of.container));
        }
    }
    assert!((0..MOST).all(|number| fake.looks(number) == 1));
}

/// Bundles that never come take neither unbounded memory nor the turn of those that are there.
#[tokio::test(start_paused = true)]
async fn what_never_comes_keeps_nothing_new_waiting() {
    let fake = Fake::new([(2 * MOST, 1)]);
    let (requests, lookups, mut roles) = channel();
    let mut lookups = lookups;
    for number in 0..2 * MOST {
        lookups.look_again(Lookup { request: request(number), failed: 1 }, Duration::ZERO);
    }
    assert_eq!(lookups.again.len(), MOST);
    // What is looked for after it says nothing: the reader may be ahead of this task.
    let (looked, others_first) = (fake.clone(), Arc::new(Mutex::new(None)));
    let before = others_first.clone();
    tokio::spawn(lookups.run(move |container| {
        if container == id(2 * MOST) {
            *before.lock().unwrap() = Some(looked.looks.lock().unwrap().values().sum::<usize>());
        }
        looked.look(container)
    }));
    requests.ask(request(2 * MOST));
    assert_eq!(roles.recv().await.unwrap()[0].request, request(2 * MOST));
    let others_first = others_first.lock().unwrap().unwrap();
    assert!(others_first <= MOST_AT_ONCE, "{others_first} looks for others first");
}

/// The core goes on, and what waits is bounded.
#[tokio::test]
async fn more_than_can_wait_are_left_out() {
    let (requests, lookups, _roles) = channel();
    for number in 0..=MOST {
        requests.ask(request(number));
    }
    assert_eq!(lookups.requests.len(), MOST);
    assert!(requests.overflow_reported.load(Ordering::Relaxed));
    RoleRequests::default().ask(request(1));
}

/// To look again would bring nothing but the same again.
#[tokio::test(start_paused = true)]
async fn a_bundle_that_cannot_be_read_is_given_up_at_once() {
    let looks = Arc::new(Mutex::new(0));
    let (requests, lookups, mut roles) = channel();
    let counted = looks.clone();
    tokio::spawn(lookups.run(move |container| {
        if container == id(2) {
            return Looked::Role(ContainerRole::Sandbox);
        }
        *counted.lock().unwrap() += 1;
        Looked::Unreadable(BundleError::NotRegular("config.json".into()))
    }));
    requests.ask(request(1));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    requests.ask(request(2));
    assert_eq!(roles.recv().await.unwrap()[0].request, request(2), "and the others are read");
    assert_eq!(*looks.lock().unwrap(), 1);
}
