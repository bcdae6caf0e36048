//! Which settings fit, and which of them costs least.

use serde::Serialize;

use super::{
    PlanError,
    need::{Item, Need, Rehearsed},
    setting::{Class, Device, OnHost, Setting, Values},
};
use crate::moments::MomentFormat;

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
    /// The moments.
    pub moments: Option<MomentFormat>,
    /// What waits on the host.
    pub on_host: Option<OnHost>,
    /// What matrices are that are not trained.
    pub frozen: Values,
}

impl Wishes {
    fn allow(&self, setting: &Setting) -> bool {
        self.class.is_none_or(|class| class == setting.class)
            && self.moments.is_none_or(|moments| moments == setting.moments)
            && self.on_host.is_none_or(|on_host| on_host == setting.on_host)
    }
}

/// What a GPU's memory holds in a setting.
pub type OnGpu<'a> = &'a dyn Fn(&Setting) -> Result<Vec<Item>, PlanError>;

/// A setting with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// What it needs.
    pub need: Need,
    /// Whether that is there.
    pub fits: bool,
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
    /// The one with least memory on the device, for when nothing fits.
    pub smallest: Choice,
}

/// Looks for the cheapest setting that fits. What a GPU's memory holds is asked of `on_gpu`.
///
/// # Errors
///
/// [`PlanError::Wishes`] when no setting of the device is as was wished; what `on_gpu` says.
pub fn answer(
    rehearsed: &Rehearsed<'_>,
    on_gpu: OnGpu<'_>,
    wishes: Wishes,
    budget: Budget,
    rates: Rates,
) -> Result<Answer, PlanError> {
    let device = rehearsed.device();
    let choose = |setting: Setting| {
        let items = if device == Device::Gpu { on_gpu(&setting)? } else { Vec::new() };
        let need = rehearsed.need(setting, items);
        let within = |bytes: u64, most: Option<u64>| most.is_none_or(|most| bytes <= most);
        let fits = within(need.device_bytes(), budget.device) && within(need.host_bytes(), budget.host);
        let flops = match setting.class {
            Class::Fast => rates.fast_flops,
            Class::Exact => rates.exact_flops,
        };
        let assumed_s = need.executed_flops as f64 / flops + need.bus_bytes as f64 / rates.bus_bytes;
        Ok(Choice { need, fits, assumed_s })
    };
    let all = Setting::all(device, rehearsed.keep(), wishes.frozen);
    let wished = all.into_iter().filter(|setting| wishes.allow(setting));
    let mut choices: Vec<Choice> = wished.map(choose).collect::<Result<_, PlanError>>()?;
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
    })
}

/// What holds of processors.
const NO_SUCH_SETTING: &str =
    "a processor has no tensor cores for the class fast, and nowhere else to keep anything";

/// Of two settings that take the same time, the one that rounds less comes first, and the one whose products are a library's.
fn roughness(choice: &Choice) -> (u8, bool) {
    let Setting { moments, library, .. } = choice.need.setting;
    (moments as u8, !library)
}

/// How far a setting is from the trainer's own.
fn distance(setting: &Setting) -> (OnHost, bool, bool, bool) {
    let Setting { on_host, moments, class, library, .. } = *setting;
    (on_host, moments != MomentFormat::F32, class != Class::Exact, !library)
}
