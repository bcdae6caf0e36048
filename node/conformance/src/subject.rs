//! What is under test: the trainer's model, or its plain reference.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use talkoot_trainer::{
    backend::Backend,
    config::ModelConfig,
    cpu::Cpu,
    model::{Batch, ClassStrip, Model, ModelError, Sample},
    modules::{Module, trainable},
    reference,
    state::State,
};

use crate::CheckError;

/// Values by name: intermediate ones, or gradients.
pub(crate) type Values = BTreeMap<String, Vec<f32>>;

/// What a model makes of samples.
#[derive(Debug, Default)]
pub struct Shown {
    /// Intermediate values by name, rows in the order of the samples.
    pub(crate) values: Values,
    /// Loss of every learned position, in order.
    pub(crate) losses: Vec<f32>,
    /// Gradient of the mean loss by every parameter.
    pub(crate) gradients: Values,
}

/// A model that shows what happens inside.
pub trait Subject {
    /// Runs samples through a model with these weights, forward and backward.
    ///
    /// # Errors
    ///
    /// [`CheckError`] when the model cannot be built or run.
    fn show(
        &self,
        config: &ModelConfig,
        state: &State,
        strip: ClassStrip,
        samples: &[Sample],
    ) -> Result<Shown, CheckError>;
}

/// The trainer's model on a device.
#[derive(Debug)]
pub struct Fast<B = Cpu>(pub B);

impl<B: Backend> Subject for Fast<B> {
    fn show(
        &self,
        config: &ModelConfig,
        state: &State,
        strip: ClassStrip,
        samples: &[Sample],
    ) -> Result<Shown, CheckError> {
        let model = Model::new(&self.0, config, state)?.with_strip(strip);
        let batch = Batch::new(samples, config);
        let mut shown = Shown::default();
        let mut keep = |name: &str, values| drop(shown.values.insert(name.to_owned(), values));
        let hidden = model.hidden(&batch, Some(&mut keep))?;
        let normal = model.final_norm(&hidden)?;
        shown.values.insert("text.norm".to_owned(), self.0.download(&normal).map_err(ModelError::from)?);
        shown.values.insert("logits".to_owned(), model.logits(&normal)?);
        let mut gradients = model.gradients(&trainable(config, &Module::ALL))?;
        let scales = vec![1.0 / batch.learned().max(1) as f32; batch.learned()];
        shown.losses = model.differentiate(&batch, &scales, &mut gradients)?;
        gradients.finish(&self.0)?;
        for (name, values) in gradients.iter() {
            shown.gradients.insert(name.to_owned(), self.0.download(values).map_err(ModelError::from)?);
        }
        Ok(shown)
    }
}

/// The reference model on candle.
#[derive(Debug)]
pub struct Plain;

impl Subject for Plain {
    fn show(
        &self,
        config: &ModelConfig,
        state: &State,
        strip: ClassStrip,
        samples: &[Sample],
    ) -> Result<Shown, CheckError> {
        let names = trainable(config, &Module::ALL);
        let model = reference::Model::new(config, state, &names)?.with_strip(strip);
        let batch = reference::Batch::new(samples, config).map_err(reference::ModelError::from)?;
        let mut probe = reference::Probe::default();
        let hidden = model.hidden(&batch, Some(&mut probe))?;
        // the reference joins pictures and samples of one size: put rows back into the order of the samples
        let (text, vision) = (batch.token_rows(), batch.vision_rows());
        let patches = patch_rows(&vision, samples);
        let mut shown = Shown::default();
        let mut keep = |name: &str, value: &Tensor, order: &[u32]| {
            let values = in_order(value, order).map_err(reference::ModelError::from)?;
            shown.values.insert(name.to_owned(), values);
            Ok::<_, CheckError>(())
        };
        for (name, value) in &probe.tensors {
            let all: Vec<u32> = (0..value.dims()[0] as u32).collect();
            let order = match name.as_str() {
                name if name.starts_with("text.") => &text,
                "vision.patch_embed" => &patches,
                "vision.stripped" | "vision.merger" => &all,
                _ => &vision,
            };
            keep(name, value, order)?;
        }
        let (normal, logits) = model.logits(&hidden)?;
        keep("text.norm", &normal, &text)?;
        keep("logits", &logits, &text)?;
        let learned = batch.learned().max(1);
        shown.losses = model.losses(&batch)?.to_vec1().map_err(reference::ModelError::from)?;
        (_, shown.gradients) = model.gradients(&batch, 1.0 / learned as f32)?;
        Ok(shown)
    }
}

fn in_order(tensor: &Tensor, order: &[u32]) -> candle_core::Result<Vec<f32>> {
    let order = Tensor::from_slice(order, order.len(), &Device::Cpu)?;
    tensor.index_select(&order, 0)?.flatten_all()?.to_vec1()
}

/// Where every patch, in order of the samples, stands among patches without class rows.
fn patch_rows(vision: &[u32], samples: &[Sample]) -> Vec<u32> {
    let mut start = 0;
    let mut classes = Vec::new();
    for picture in samples.iter().flat_map(|sample| &sample.pictures) {
        classes.push(vision[start]);
        start += picture.len() + 1;
    }
    let before = |row: u32| classes.iter().filter(|&&class| class < row).count() as u32;
    vision.iter().filter(|row| !classes.contains(row)).map(|&row| row - before(row)).collect()
}
