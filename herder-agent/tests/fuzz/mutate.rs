//! Makes inputs worse: a corpus, and chance that is the same for the same seed.

/// What parsers tend to stumble over, in text and in bytes.
const WORDS: [&[u8]; 24] = [
    b"/",
    b"..",
    b"-",
    b"_",
    b"=",
    b",",
    b":",
    b"\"",
    b"\\",
    b"{",
    b"[",
    b"*",
    b"&a ",
    b"null",
    b"-1",
    b"99999999999999999999",
    b"1e999",
    b"\n",
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    "é".as_bytes(),
    "\u{202e}".as_bytes(),
];

/// Longest input, bytes.
const LONGEST: usize = 1 << 16;

pub(crate) struct Mutator {
    corpus: Vec<Vec<u8>>,
    state: u64,
}

impl Mutator {
    pub(crate) fn new(corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        assert!(!corpus.is_empty() && seed != 0);
        Mutator { corpus, state: seed }
    }

    /// Another input: one of the corpus after a change, or a few.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.one_of_corpus().to_vec();
        let most = if self.roll(2) == 0 { 1 } else { 5 };
        for _ in 0..=self.roll(most) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input.len());
        let at = range.start;
        match self.roll(8) {
            0 => drop(input.drain(range)),
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.roll(8);
                }
            }
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = u8::try_from(self.roll(256)).unwrap();
                }
            }
            3 => {
                let part = input[range].to_vec();
                input.splice(at..at, part.repeat(1 + self.roll(20)));
            }
            4 => input.truncate(at),
            5 => {
                let other = self.one_of_corpus().to_vec();
                let part = other[self.range(other.len())].to_vec();
                input.splice(range, part);
            }
            6 => {
                let word = WORDS[self.roll(WORDS.len())];
                input.splice(range, word.iter().copied());
            }
            _ => {
                let word = WORDS[self.roll(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
        }
    }

    /// A part of something, mostly a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.roll(length + 1);
        let most = if self.roll(4) == 0 { length } else { 8 };
        start..(start + self.roll(most + 1)).min(length)
    }

    fn one_of_corpus(&mut self) -> &[u8] {
        let chosen = self.roll(self.corpus.len());
        &self.corpus[chosen]
    }

    /// Xorshift.
    fn roll(&mut self, sides: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 1).unwrap() % sides
    }
}
