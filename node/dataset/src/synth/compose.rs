//! Choosing scenes: attributes dealt from decks, so that every answer comes up as often as the others.

use super::{
    SynthError,
    scene::{COUNTS, Colour, Content, Ground, Place, Scene, Shape, Thing, WORDS},
};
use crate::random::{Deck, Dice};

/// Tries to find a scene that may be used, before giving up.
const ATTEMPTS: usize = 2_000;

/// Sizes in pixels and how many cards of a deck of ten they hold; most pictures need no resizing and are small.
const SIZES: [(u32, u32); 10] =
    [(84, 84), (84, 84), (84, 84), (84, 84), (84, 84), (84, 84), (90, 88), (112, 84), (84, 112), (112, 112)];

/// One deck for each attribute.
pub(super) struct Composer {
    dice: Dice,
    kinds: Deck,
    colours: Deck,
    shapes: Deck,
    places: Deck,
    counts: Deck,
    digits: Deck,
    words: Deck,
    grounds: Deck,
    sizes: Deck,
}

impl Composer {
    pub(super) fn new(seed: u64, part: &str) -> Self {
        Self {
            dice: Dice::new(part, seed),
            kinds: Deck::new(10),
            colours: Deck::new(Colour::ALL.len()),
            shapes: Deck::new(Shape::ALL.len()),
            places: Deck::new(Place::ALL.len()),
            counts: Deck::new(COUNTS.len()),
            digits: Deck::new(10),
            words: Deck::new(WORDS.len()),
            grounds: Deck::new(2),
            sizes: Deck::new(SIZES.len()),
        }
    }

    /// `pictures` scenes that `may` be used.
    pub(super) fn compose(
        &mut self,
        pictures: usize,
        mut may: impl FnMut(&Scene) -> bool,
    ) -> Result<Vec<Scene>, SynthError> {
        let mut scenes = Vec::with_capacity(pictures);
        while scenes.len() < pictures {
            let kind = self.kinds.deal(&mut self.dice);
            // What the scene is asked about first is dealt once, however often the rest must be drawn again.
            let own = match kind {
                0..3 => self.counts.deal(&mut self.dice),
                3..6 => self.places.deal(&mut self.dice),
                6..8 => self.digits.deal(&mut self.dice),
                _ => self.words.deal(&mut self.dice),
            };
            let scene = (0..ATTEMPTS).map(|_| self.scene(kind, own)).find(|scene| may(scene));
            scenes.push(scene.ok_or(SynthError::OutOfScenes { found: scenes.len() })?);
        }
        Ok(scenes)
    }

    fn colour(&mut self) -> Colour {
        Colour::ALL[self.colours.deal(&mut self.dice)]
    }

    fn thing(&mut self) -> Thing {
        Thing { colour: self.colour(), shape: Shape::ALL[self.shapes.deal(&mut self.dice)] }
    }

    /// A thing that shares neither colour nor shape with `other`; not from the decks, which must stay in step with what
    /// is asked.
    fn another(&mut self, other: Thing) -> Thing {
        Thing { colour: self.other(Colour::ALL, other.colour), shape: self.other(Shape::ALL, other.shape) }
    }

    /// Any of `all` but `taken`.
    fn other<T: Copy + PartialEq>(&mut self, all: &[T], taken: T) -> T {
        loop {
            let drawn = all[self.dice.below(all.len())];
            if drawn != taken {
                return drawn;
            }
        }
    }

    /// Of ten pictures three are groups, three pairs, two digits, two words.
    fn scene(&mut self, kind: usize, own: usize) -> Scene {
        let content = match kind {
            0..3 => self.group(own + 1),
            3..6 => self.pair(Place::ALL[own]),
            6..8 => {
                let (colour, below) = self.print();
                Content::Digit { digit: own, colour, below }
            }
            _ => {
                let (colour, below) = self.print();
                Content::Word { word: own, colour, below }
            }
        };
        let ground = Ground::ALL[self.grounds.deal(&mut self.dice)];
        let (width, height) = SIZES[self.sizes.deal(&mut self.dice)];
        Scene { content, ground, width, height }
    }

    fn group(&mut self, count: usize) -> Content {
        let mut cells: Vec<usize> = (0..9).collect();
        self.dice.shuffle(&mut cells);
        cells.truncate(count);
        cells.sort_unstable();
        Content::Group { thing: self.thing(), cells }
    }

    /// In the order of their places, so that a pair has one description.
    fn pair(&mut self, place: Place) -> Content {
        let first = (self.thing(), place);
        let second = (self.another(first.0), self.other(Place::ALL, place));
        let mut things = [first, second];
        things.sort_by_key(|(_, place)| *place);
        Content::Pair { things, asked: usize::from(things[1].1 == place) }
    }

    fn print(&mut self) -> (Colour, Thing) {
        let colour = self.colour();
        let shape = Shape::ALL[self.shapes.deal(&mut self.dice)];
        (colour, Thing { colour: self.other(Colour::ALL, colour), shape })
    }
}
