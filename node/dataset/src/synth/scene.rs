//! What is in a picture: the few things that a scene is made of, and how it is drawn.

use super::canvas::{Canvas, columns_of};
use crate::{preprocess::Rgb, random::Dice};

/// Red, green, blue.
pub(super) type Tint = [u8; 3];

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum $name { $($variant),+ }

        impl $name {
            pub(super) const ALL: &[Self] = &[$(Self::$variant),+];

            pub(super) fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words!(
    /// Vivid and far apart.
    Colour {
        Red = "red",
        Green = "green",
        Blue = "blue",
        Yellow = "yellow",
        Orange = "orange",
        Purple = "purple",
        Pink = "pink",
        Cyan = "cyan",
    }
);
words!(
    /// Plain shapes.
    Shape {
        Circle = "circle",
        Square = "square",
        Triangle = "triangle",
        Diamond = "diamond",
        Cross = "cross",
        Ring = "ring",
    }
);
words!(
    /// Where one of two shapes stands.
    Place { Left = "left", Right = "right", Top = "top", Bottom = "bottom", Middle = "middle" }
);
words!(
    /// What everything stands on.
    Ground { White = "white", Black = "black" }
);

/// How many, in words; index 0 is one.
pub(super) const COUNTS: [&str; 5] = ["one", "two", "three", "four", "five"];
/// The printed words.
pub(super) const WORDS: [&str; 8] = ["sun", "cat", "box", "key", "hat", "mop", "ice", "jug"];

impl Colour {
    fn tint(self) -> Tint {
        match self {
            Self::Red => [220, 30, 40],
            Self::Green => [30, 160, 60],
            Self::Blue => [40, 70, 230],
            Self::Yellow => [240, 215, 30],
            Self::Orange => [240, 130, 20],
            Self::Purple => [140, 40, 190],
            Self::Pink => [245, 130, 190],
            Self::Cyan => [40, 205, 215],
        }
    }
}

impl Shape {
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
            Self::Diamond => "diamonds",
            Self::Cross => "crosses",
            Self::Ring => "rings",
        }
    }
}

impl Place {
    /// Column and row of the 3 x 3 grid.
    fn cell(self) -> (i32, i32) {
        match self {
            Self::Left => (0, 1),
            Self::Right => (2, 1),
            Self::Top => (1, 0),
            Self::Bottom => (1, 2),
            Self::Middle => (1, 1),
        }
    }

    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Left => "on the left",
            Self::Right => "on the right",
            Self::Top => "at the top",
            Self::Bottom => "at the bottom",
            Self::Middle => "in the middle",
        }
    }
}

/// A shape of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) colour: Colour,
    pub(super) shape: Shape,
}

/// What a picture shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// One to five alike, in cells of the 3 x 3 grid.
    Group { thing: Thing, cells: Vec<usize> },
    /// Two that differ in colour, shape and place, in the order of their places; `asked` says which of them was dealt
    /// from the decks, and is asked about.
    Pair { things: [(Thing, Place); 2], asked: usize },
    /// A large digit above a shape.
    Digit { digit: usize, colour: Colour, below: Thing },
    /// A large word above a shape.
    Word { word: usize, colour: Colour, below: Thing },
}

/// A picture before it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scene {
    pub(super) content: Content,
    pub(super) ground: Ground,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// `base` with every channel moved by at most `reach`.
fn vary(base: Tint, reach: i32, dice: &mut Dice) -> Tint {
    base.map(|channel| (i32::from(channel) + dice.between(-reach, reach)).clamp(0, 255) as u8)
}

impl Scene {
    /// Draws the scene; `dice` moves things by a pixel and colours by a shade.
    pub(super) fn draw(&self, dice: &mut Dice) -> Rgb {
        let ground = match self.ground {
            Ground::White => [245, 245, 245],
            Ground::Black => [12, 12, 12],
        };
        let mut canvas = Canvas::new(self.width, self.height, vary(ground, 8, dice));
        match &self.content {
            Content::Group { thing, cells } => {
                let tint = vary(thing.colour.tint(), 10, dice);
                for &cell in cells {
                    self.draw_in_cell(
                        &mut canvas,
                        thing.shape,
                        (cell as i32 % 3, cell as i32 / 3),
                        tint,
                        dice,
                    );
                }
            }
            Content::Pair { things, .. } => {
                for (thing, place) in things {
                    let tint = vary(thing.colour.tint(), 10, dice);
                    self.draw_in_cell(&mut canvas, thing.shape, place.cell(), tint, dice);
                }
            }
            Content::Digit { digit, colour, below } => {
                self.draw_print(&mut canvas, &digit.to_string(), *colour, *below, dice);
            }
            Content::Word { word, colour, below } => {
                self.draw_print(&mut canvas, WORDS[*word], *colour, *below, dice);
            }
        }
        canvas.finish()
    }

    fn draw_in_cell(
        &self,
        canvas: &mut Canvas,
        shape: Shape,
        (column, row): (i32, i32),
        tint: Tint,
        dice: &mut Dice,
    ) {
        let (width, height) = (self.width as i32, self.height as i32);
        let centre = (
            (2 * column + 1) * width / 6 + dice.between(-1, 1),
            (2 * row + 1) * height / 6 + dice.between(-1, 1),
        );
        canvas.shape(shape, centre, width.min(height) / 6 - 1 - dice.between(0, 1), tint);
    }

    /// Print in the upper two thirds, a shape in the middle below.
    fn draw_print(&self, canvas: &mut Canvas, text: &str, colour: Colour, below: Thing, dice: &mut Dice) {
        let (width, height) = (self.width as i32, self.height as i32);
        let scale = (width * 6 / 7 / columns_of(text).max(1)).min(height * 5 / 8 / 7);
        let centre = (width / 2 + dice.between(-1, 1), height / 3 + dice.between(-1, 1));
        canvas.text(text, centre, scale, vary(colour.tint(), 10, dice));
        let tint = vary(below.colour.tint(), 10, dice);
        self.draw_in_cell(canvas, below.shape, (1, 2), tint, dice);
    }
}
