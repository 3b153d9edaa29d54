//! -1000 is never written before the init's own value is in the state file, in whatever order things
//! happen.

use super::*;

const C2: &str = "/matched/c2";

/// Steps of one run. What fails says its seed.
const STEPS: u32 = 1500;

/// The two containers, and what is so of each.
struct Run {
    node: Node,
    /// The init of each, and the score that its workload has set last.
    inits: [(u32, i16); 2],
    is_wanted: [bool; 2],
    next_pid: u32,
    random: u64,
    /// What is in the state file.
    file: Found,
    exempted: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Run {
            node: Node::new(&format!("saving-{seed}")),
            inits: [(0, 0); 2],
            is_wanted: [false; 2],
            next_pid: 10,
            random: seed,
            file: Found::default(),
            exempted: 0,
        };
        (0..2).for_each(|which| run.start(which));
        run
    }

    /// xorshift.
    fn below(&mut self, bound: u64) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % bound).unwrap()
    }

    /// The container has another init.
    fn start(&mut self, which: usize) {
        let _ = fs::remove_dir_all(self.node.root.join(format!("proc/{}", self.inits[which].0)));
        let (pid, path) = (self.next_pid, [C1, C2][which]);
        self.next_pid += 1;
        self.inits[which] = (pid, 300);
        self.node.process(pid, 5, &format!("{pid}\t1"), path, 300);
    }

    fn step(&mut self) {
        let which = self.below(2);
        match self.below(9) {
            0 => self.start(which),
            1 => {
                let score = i16::try_from(self.below(3)).unwrap();
                self.inits[which].1 = score;
                let file = format!("proc/{}/oom_score_adj", self.inits[which].0);
                fs::write(self.node.root.join(file), format!("{score}\n")).unwrap();
            }
            2 => {
                self.is_wanted[which] ^= true;
                let mut containers = BTreeMap::new();
                for (path, is_wanted) in [C1, C2].into_iter().zip(self.is_wanted) {
                    if is_wanted {
                        containers.append(&mut self.node.wanted(path, None).containers);
                    }
                }
                let wanted = Wanted { containers, ..Wanted::default() };
                self.node.worker.take_wanted(wanted.into());
            }
            3 | 4 => self.node.worker.tick(),
            5 => self.node.worker.look_at_all(),
            6 => self.file = self.node.worker.found.clone(),
            _ => self.node.worker.saved(self.file.version),
        }
        // As the thread does after each of these.
        self.node.worker.walk_some();
        self.node.worker.news();
    }

    fn check(&mut self, seed: u64) {
        for (which, (pid, own)) in self.inits.into_iter().enumerate() {
            if self.node.score(pid) != "-1000" {
                continue;
            }
            let saved = self.file.inits.get(&self.node.id([C1, C2][which]));
            let saved = saved.map(|init| (init.pid, init.score));
            assert_eq!(saved, Some((pid, own)), "seed {seed}");
            self.exempted += 1;
        }
    }
}

#[test]
fn what_is_exempt_is_in_the_state_file_with_its_own_value() {
    for seed in 1..4 {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
            run.check(seed);
        }
        assert!(run.exempted > 100, "{} times", run.exempted);
    }
}
