//! Inputs that resemble a corpus: its texts cut, joined, repeated, and strewn with what parsers stumble over.

/// Longest input, in bytes.
pub(super) const LONGEST: usize = 64 << 10;

/// What stands in documents of ours, and what would better not.
const WORDS: [&[u8]; 48] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\u0001NaN",
    b"\0",
    b"\n",
    b"\xff",
    b"\xef\xbb\xbf",
    "ä".as_bytes(),
    "\u{202e}".as_bytes(),
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1e-999",
    b"1e308",
    b"5e-324",
    b"-0",
    b"0",
    b"1",
    b"-1",
    b"0.1",
    b"9007199254740993",
    b"18446744073709551615",
    b"-9223372036854775809",
    b"99999999999999999999999999",
    b"true",
    b"null",
    b"\"\"",
    b"{}",
    b"[]",
    b"[[",
    b"//",
    b"/*",
    b"../",
    b"/",
    b"%IN",
    b"$(x)",
    b"\"low\":1e308,\"high\":-1e308",
    b"\"q\":1e-300",
    b"\"categories\":[]",
    b"\"if\":{\"a\":[1]}",
];

/// Inputs by a seed: equal seeds and corpora give equal inputs.
pub(super) struct Generator<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Generator<'a> {
    pub(super) fn new(corpus: &'a [Vec<u8>], seed: u64) -> Generator<'a> {
        Generator { corpus, state: seed }
    }

    /// The next input.
    pub(super) fn input(&mut self) -> Vec<u8> {
        let mut input = self.of_corpus().to_vec();
        for _ in 0..=self.below(6) {
            self.mutate(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    /// A number below `bound`, by `SplitMix64` (Steele, Lea and Flood 2014).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    fn of_corpus(&mut self) -> &'a [u8] {
        &self.corpus[self.below(self.corpus.len())]
    }

    /// A stretch of `text`, short more often than long.
    fn stretch(&mut self, text: &[u8]) -> std::ops::Range<usize> {
        let begin = self.below(text.len() + 1);
        let longest = (text.len() - begin).min([4, 16, 64, 4096][self.below(4)]);
        begin..begin + self.below(longest + 1)
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(10) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => {
                input[at] = [0, 0xff, b'"', b'0', self.below(256) as u8][self.below(5)];
            }
            2 => drop(input.drain(self.stretch(input))),
            3 => {
                let copy = input[self.stretch(input)].to_vec();
                input.splice(at..at, copy);
            }
            4 => {
                let other = self.of_corpus();
                let range = self.stretch(other);
                let place = self.stretch(input);
                input.splice(place, other[range].iter().copied());
            }
            5 | 6 => {
                let word = WORDS[self.below(WORDS.len())];
                let place = self.stretch(input);
                let place = if self.below(2) == 0 { at..at } else { place };
                input.splice(place, word.iter().copied());
            }
            7 => self.replace_number(input),
            // Deep and long inputs are slow: few of them.
            8 if self.below(40) == 0 => {
                let word = WORDS[self.below(WORDS.len())];
                let times = self.below(LONGEST / word.len());
                input.splice(at..at, word.repeat(times));
            }
            8 if self.below(20) == 0 => {
                let copy = input[self.stretch(input)].to_vec();
                let times = self.below(LONGEST / copy.len().max(1)) / 4;
                input.splice(at..at, copy.repeat(times));
            }
            _ => input.truncate(if self.below(4) == 0 { at } else { input.len() }),
        }
    }

    /// Puts another number in the place of one.
    fn replace_number(&mut self, input: &mut Vec<u8>) {
        let from = self.below(input.len() + 1);
        let Some(begin) = (from..input.len()).find(|index| input[*index].is_ascii_digit()) else {
            return;
        };
        let end = (begin..input.len())
            .find(|index| !input[*index].is_ascii_digit())
            .unwrap_or(input.len());
        let number = match self.below(4) {
            0 => WORDS[17 + self.below(15)].to_vec(),
            1 => self.below(300).to_string().into_bytes(),
            2 => format!("{:e}", f64::from_bits(self.below(usize::MAX) as u64)).into_bytes(),
            _ => (1_u64 << self.below(64)).to_string().into_bytes(),
        };
        input.splice(begin..end, number);
    }
}
