//! Which settings fit, and which of them costs least.

use serde::Serialize;

use super::{
    PlanError,
    need::{Need, Rehearsed},
    setting::{Class, Device, MomentType, Offload, Setting, Values},
};
use crate::model::Keep;

/// How much memory there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Budget {
    /// Bytes of the GPU; without a number everything fits.
    pub device: Option<u64>,
    /// Bytes of the host; without a number everything fits.
    pub host: Option<u64>,
}

/// What a machine does in a second; settings are compared by it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Operations a second in bf16 products, sustained.
    pub fast_flops: f64,
    /// Operations a second in f32, sustained.
    pub exact_flops: f64,
    /// Bytes a second over the bus between host and GPU.
    pub bus_bytes: f64,
}

impl Default for Rates {
    /// A recent card for games: half of 165 and of 82 TFLOP/s, 16 GB/s. Assumptions, not measurements.
    fn default() -> Self {
        Self { fast_flops: 80e12, exact_flops: 40e12, bus_bytes: 16e9 }
    }
}

/// What somebody wants to have; the rest is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// The numbers.
    pub class: Option<Class>,
    /// What is kept.
    pub keep: Option<Keep>,
    /// The moments.
    pub moments: Option<MomentType>,
    /// What waits on the host.
    pub offload: Option<Offload>,
    /// Intermediate values.
    pub values: Option<Values>,
    /// Matrices that are not trained.
    pub frozen: Option<Values>,
}

impl Wishes {
    fn allow(&self, setting: &Setting) -> bool {
        self.class.is_none_or(|class| class == setting.class)
            && self.keep.is_none_or(|keep| keep == setting.keep)
            && self.moments.is_none_or(|moments| moments == setting.moments)
            && self.offload.is_none_or(|offload| offload == setting.offload)
            && self.values.is_none_or(|values| values == setting.values)
            && self.frozen.is_none_or(|frozen| frozen == setting.frozen)
    }
}

/// A setting with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// What it needs.
    pub need: Need,
    /// Whether that is there.
    pub fits: bool,
    /// What this program lacks for it.
    pub lacks: Vec<&'static str>,
    /// Seconds of a step at the assumed rates: operations, then the bus, one behind the other.
    pub assumed_s: f64,
}

/// All settings, and those to look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What settings were compared with.
    pub rates: Rates,
    /// What there is.
    pub budget: Budget,
    /// The setting that is closest to the trainer's own: wishes, and defaults for the rest.
    pub asked: Choice,
    /// The cheapest setting among the wished ones that fits.
    pub cheapest: Option<Choice>,
    /// The cheapest of those that fit which this program can do.
    pub cheapest_built: Option<Choice>,
    /// The one with least memory on the device, for when nothing fits.
    pub smallest: Choice,
}

/// Looks for the cheapest setting that fits.
///
/// # Errors
///
/// [`PlanError::Wishes`] when no setting of the device is as was wished.
pub fn answer(
    rehearsed: &Rehearsed<'_>,
    device: Device,
    wishes: Wishes,
    budget: Budget,
    rates: Rates,
) -> Result<Answer, PlanError> {
    let choose = |setting: Setting| {
        let need = rehearsed.need(setting);
        let within = |bytes: u64, most: Option<u64>| most.is_none_or(|most| bytes <= most);
        let fits = within(need.device_bytes(), budget.device) && within(need.host_bytes(), budget.host);
        let flops = match setting.class {
            Class::Fast => rates.fast_flops,
            Class::Exact => rates.exact_flops,
        };
        let assumed_s = need.executed_flops as f64 / flops + need.bus_bytes as f64 / rates.bus_bytes;
        Choice { lacks: setting.lacks(), need, fits, assumed_s }
    };
    let mut choices: Vec<Choice> =
        Setting::all(device).into_iter().filter(|setting| wishes.allow(setting)).map(choose).collect();
    choices.sort_by(|a, b| a.assumed_s.total_cmp(&b.assumed_s).then(roughness(a).cmp(&roughness(b))));
    let held = |choice: &&Choice| choice.need.device_bytes() + choice.need.host_bytes();
    let in_device = |choice: &&Choice| (choice.need.device_bytes(), held(choice));
    let (Some(asked), Some(smallest)) = (
        choices.iter().min_by_key(|choice| distance(&choice.need.setting)),
        choices.iter().min_by_key(in_device),
    ) else {
        return Err(PlanError::Wishes(NO_SUCH_SETTING));
    };
    Ok(Answer {
        rates,
        budget,
        asked: asked.clone(),
        smallest: smallest.clone(),
        cheapest: choices.iter().find(|choice| choice.fits).cloned(),
        cheapest_built: choices.iter().find(|choice| choice.fits && choice.lacks.is_empty()).cloned(),
    })
}

/// What holds in the exact class and on processors.
const NO_SUCH_SETTING: &str = "the exact class is f32 throughout, its moments f32 or 8-bit, and a processor knows no other and has nowhere to offload to";

/// Of two settings that take the same time, the one that rounds less comes first.
fn roughness(choice: &Choice) -> (bool, bool, u8) {
    let Setting { values, frozen, moments, .. } = choice.need.setting;
    (values == Values::Bf16, frozen == Values::Bf16, moments as u8)
}

/// How far a setting is from the trainer's own.
fn distance(setting: &Setting) -> [u8; 6] {
    [
        setting.offload as u8,
        u8::from(setting.values != Values::F32),
        u8::from(setting.frozen != Values::F32),
        u8::from(setting.moments != MomentType::F32),
        u8::from(setting.class != Class::Exact),
        u8::from(setting.keep != Keep::Inputs),
    ]
}
