//! An answer as a page to read.

use std::fmt::Write as _;

use super::{
    Answer, Device, Item, Need, Setting, Task,
    answer::{Budget, Choice},
};

/// The page.
pub fn page(name: &str, task: &Task<'_>, answer: &Answer) -> String {
    let mut page = String::new();
    let (all, trained) = task.parameters();
    let load = task.load();
    line(
        &mut page,
        &format!("model    {name}: {} parameters, {} of them trained", count(all), count(trained)),
    );
    let pictures = match load.pictures {
        0 => "no pictures".to_owned(),
        count => format!("{count} pictures of {0} x {0} patches", load.picture_side),
    };
    let together = match load.together() {
        1 => "one at a time".to_owned(),
        packs => format!("{packs} at a time"),
    };
    line(
        &mut page,
        &format!("step     {} packs of {} tokens with {pictures}, {together}", load.packs, load.tokens),
    );
    let asked = &answer.asked;
    choice(&mut page, "setting", asked, &answer.budget);
    verdict(&mut page, answer);
    if asked.need.setting.device == Device::Gpu {
        let rates = answer.rates;
        line(&mut page, "");
        line(
            &mut page,
            "Nothing that is said here of a GPU was run on one yet: bytes follow from the model's code, and settings",
        );
        line(
            &mut page,
            &format!(
                "are compared at assumed rates, {:.0} TFLOP/s in bf16, {:.0} in f32, {:.0} GB/s over the bus.",
                rates.fast_flops / 1e12,
                rates.exact_flops / 1e12,
                rates.bus_bytes / 1e9
            ),
        );
    }
    page.truncate(page.trim_end().len());
    page
}

fn choice(page: &mut String, title: &str, choice: &Choice, budget: &Budget) {
    let need = &choice.need;
    line(page, &format!("{title:<8} {}", need.setting));
    line(page, &format!("         {}", work(need, choice.assumed_s)));
    switches(page, choice);
    items(page, "on the GPU, when most is in use", &need.device, budget.device);
    items(page, "on the host, when most is in use", &need.host, budget.host);
}

/// What a node is to be told.
fn switches(page: &mut String, choice: &Choice) {
    let Setting { device, .. } = choice.need.setting;
    let switches = choice.need.setting.switches();
    if device == Device::Gpu && !switches.is_empty() {
        line(page, &format!("         talkoot node {switches}"));
    }
}

fn work(need: &Need, seconds: f64) -> String {
    let tera = |flops: u128| flops as f64 / 1e12;
    let mut text = format!(
        "{:.2} TFLOP, {:.2} with what is computed again",
        tera(need.model_flops),
        tera(need.executed_flops)
    );
    if need.setting.device == Device::Gpu {
        let _ = write!(
            text,
            "; {:.2} GB over the bus; {seconds:.2} s at the assumed rates",
            need.bus_bytes as f64 / 1e9
        );
    }
    text
}

fn items(page: &mut String, title: &str, items: &[Item], budget: Option<u64>) {
    if items.is_empty() {
        return;
    }
    line(page, "");
    line(page, title);
    for item in items {
        line(page, &format!("  {:<52}{:>12}", item.name, size(item.bytes)));
    }
    let sum: u64 = items.iter().map(|item| item.bytes).sum();
    let there = match budget {
        Some(most) if sum > most => format!("   of {}: too much", size(most)),
        Some(most) => format!("   of {}", size(most)),
        None => String::new(),
    };
    line(page, &format!("  {:<52}{:>12}{there}", "sum", size(sum)));
}

fn verdict(page: &mut String, answer: &Answer) {
    if answer.budget == Budget::default() {
        return;
    }
    line(page, "");
    if answer.asked.fits {
        line(page, "It fits.");
    } else {
        line(page, "It does not fit.");
    }
    match &answer.cheapest {
        Some(cheapest) => {
            line(page, &format!("The cheapest that fits: {}", cheapest.need.setting));
            line(
                page,
                &format!("  {}; {}", memory(&cheapest.need), work(&cheapest.need, cheapest.assumed_s)),
            );
            switches(page, cheapest);
        }
        None => {
            let smallest = &answer.smallest;
            line(
                page,
                "No setting fits. The one that takes least of the GPU, or of the host where there is none:",
            );
            line(page, &format!("  {}: {}", smallest.need.setting, memory(&smallest.need)));
            line(
                page,
                "  Shorter packs lower what is kept and worked with; weights and their gradients stay.",
            );
        }
    }
}

fn memory(need: &Need) -> String {
    match need.setting.device {
        Device::Gpu => {
            format!("{} on the GPU, {} on the host", size(need.device_bytes()), size(need.host_bytes()))
        }
        Device::Cpu { .. } => size(need.host_bytes()),
    }
}

fn line(page: &mut String, text: &str) {
    page.push_str(text.trim_end());
    page.push('\n');
}

/// A number of parameters.
fn count(number: u64) -> String {
    match number {
        0..1_000_000 => number.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.2} G", number as f64 / 1e9),
    }
}

/// Bytes in powers of 1024.
fn size(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib >= 1.0 { format!("{gib:.2} GiB") } else { format!("{:.1} MiB", gib * 1024.0) }
}
