//! Gradients of the trained parameters, where every operation adds its part.

use std::collections::BTreeMap;

use super::{EMBEDDING, HEAD, ModelError};
use crate::{
    backend::{Backend, Done},
    config::ModelConfig,
    modules::Module,
};

/// Gradients by name; parameters without an entry are frozen.
///
/// Two gradients are gathered from several places of the model. So that their sums do not depend on how a step's packs
/// are joined into batches, each place has a buffer of its own until [`Self::finish`]: the class token's angles two per
/// block, for queries and keys, and a tied embedding one as head and one as table.
#[derive(Debug)]
pub struct Gradients<B: Backend> {
    places: BTreeMap<String, usize>,
    buffers: Vec<B::Buffer>,
    /// Of a frozen partner in a pair: computed and thrown away.
    spare: Option<B::Buffer>,
    angles: Vec<B::Buffer>,
    tied_head: Option<B::Buffer>,
}

/// Gradients of a weight and its bias; none when both are frozen.
pub(super) type Pair<'a, B> = Option<(&'a mut <B as Backend>::Buffer, &'a mut <B as Backend>::Buffer)>;

/// Name of the class token's angles.
const ANGLES: &str = "visual.class_pos_emb";

impl<B: Backend> Gradients<B> {
    pub(super) fn zeros(backend: &B, config: &ModelConfig, trainable: &[String]) -> Result<Self, ModelError> {
        let shapes = config.parameter_shapes();
        let mut gradients = Self {
            places: BTreeMap::new(),
            buffers: Vec::new(),
            spare: None,
            angles: Vec::new(),
            tied_head: None,
        };
        for name in trainable {
            let shape =
                shapes.get(name).ok_or_else(|| ModelError::UnknownParameter { name: name.clone() })?;
            if gradients.places.insert(name.clone(), gradients.buffers.len()).is_none() {
                gradients.buffers.push(backend.zeros(shape.iter().product())?);
            }
        }
        if gradients.places.contains_key(ANGLES) {
            let half = config.vision.head_dim() / 2;
            for _ in 0..2 * config.vision.depth {
                gradients.angles.push(backend.zeros(half)?);
            }
        }
        if config.text.tie_word_embeddings && gradients.places.contains_key(EMBEDDING) {
            let len = config.text.vocab_size * config.text.hidden_size;
            gradients.tied_head = Some(backend.zeros(len)?);
        }
        Ok(gradients)
    }

    /// Puts together what was gathered apart; to be called once, behind the last batch of a step.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn finish(&mut self, backend: &B) -> Result<(), ModelError> {
        for part in std::mem::take(&mut self.angles) {
            if let Some(total) = self.get(ANGLES) {
                backend.add(&part, total)?;
            }
        }
        if let Some(head) = self.tied_head.take()
            && let Some(total) = self.get(EMBEDDING)
        {
            backend.add(&head, total)?;
        }
        Ok(())
    }

    /// Names and gradients in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &B::Buffer)> {
        self.places.iter().map(|(name, &place)| (name.as_str(), &self.buffers[place]))
    }

    /// The gradient of a parameter; none when it is frozen.
    pub(super) fn get(&mut self, name: &str) -> Option<&mut B::Buffer> {
        self.places.get(name).map(|&place| &mut self.buffers[place])
    }

    /// Gradients of a weight and its bias, each with the length of its parameter.
    pub(super) fn pair(
        &mut self,
        backend: &B,
        weight: (&str, usize),
        bias: (&str, usize),
    ) -> Done<Pair<'_, B>> {
        Ok(match (self.places.get(weight.0), self.places.get(bias.0)) {
            (None, None) => None,
            (Some(&weight), Some(&bias)) => {
                let places = self.buffers.get_disjoint_mut([weight, bias]);
                let [weight, bias] = places.expect("two parameters have two places");
                Some((weight, bias))
            }
            (Some(&weight), None) => {
                let spare = self.spare.insert(backend.zeros(bias.1)?);
                Some((&mut self.buffers[weight], spare))
            }
            (None, Some(&bias)) => {
                let spare = self.spare.insert(backend.zeros(weight.1)?);
                Some((spare, &mut self.buffers[bias]))
            }
        })
    }

    /// Where the head's gradient goes.
    pub(super) fn head(&mut self) -> Option<&mut B::Buffer> {
        match self.tied_head {
            Some(ref mut head) => Some(head),
            None => self.get(HEAD),
        }
    }

    /// Where the gradients of the class token's angles in a block go: of its queries, and of its keys.
    pub(super) fn angles(&mut self, block: usize) -> Option<[&mut B::Buffer; 2]> {
        match self.angles.get_mut(2 * block..) {
            Some([queries, keys, ..]) => Some([queries, keys]),
            _ => None,
        }
    }

    fn trains(&self, module: Module) -> bool {
        self.places.keys().any(|name| Module::of(name) == module)
    }

    /// Whether anything of the vision tower is trained.
    pub(super) fn trains_tower(&self) -> bool {
        self.trains(Module::Vision)
    }

    /// Whether anything of the merger is trained.
    pub(super) fn trains_merger(&self) -> bool {
        self.trains(Module::Merger)
    }

    /// Whether anything in front of the final norm is trained, so that gradients go through the layers.
    pub(super) fn trains_below_head(&self) -> bool {
        self.places.keys().any(|name| name != HEAD && name != "model.norm.weight")
    }
}
