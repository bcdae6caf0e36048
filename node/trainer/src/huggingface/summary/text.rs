//! A summary as a page to read.

use std::fmt::Write as _;

use super::{Group, StageMemory, Summary, TensorSummary};

/// Width of the first column.
const NAME: usize = 14;

impl Summary {
    /// The page: shape, files, parts, memory; with `tensors`, every parameter too.
    pub fn to_text(&self, tensors: bool) -> String {
        let mut page = String::new();
        self.shape(&mut page);
        self.parts(&mut page);
        self.memory(&mut page);
        if tensors {
            page.push('\n');
            self.tensors.iter().for_each(|tensor| line(&mut page, &tensor_line(tensor)));
        }
        page.truncate(page.trim_end().len());
        page
    }

    fn shape(&self, page: &mut String) {
        let (v, t) = (&self.config.vision, &self.config.text);
        line(page, &format!("model     {}", self.folder.display()));
        line(
            page,
            &format!(
                "vision    {} blocks, width {}, {} heads of {}, hidden {}, patch {}, merge {}, eps {:e}",
                v.depth,
                v.hidden_size,
                v.num_heads,
                v.head_dim(),
                v.intermediate_size,
                v.patch_size,
                v.spatial_merge_size,
                v.layer_norm_eps
            ),
        );
        line(
            page,
            &format!(
                "language  {} layers, width {}, {} query and {} key heads of {}, hidden {}, eps {:e}",
                t.num_hidden_layers,
                t.hidden_size,
                t.num_attention_heads,
                t.num_key_value_heads,
                t.head_dim,
                t.intermediate_size,
                t.rms_norm_eps
            ),
        );
        let head = match (t.tie_word_embeddings, self.head_left_out) {
            (true, _) => "tied to the embedding",
            (false, true) => "not tied and not stored: a copy of the embedding",
            (false, false) => "not tied",
        };
        let (theta, longest) = (t.rope_theta, t.max_position_embeddings);
        line(
            page,
            &format!(
                "          {} token ids, rotary base {theta}, {longest} positions, head {head}",
                t.vocab_size
            ),
        );
        let bytes: u64 = self.files.iter().map(|(_, bytes)| bytes).sum();
        line(page, &format!("files     {} with weights, {}", self.files.len(), size(bytes)));
    }

    fn parts(&self, page: &mut String) {
        let columns = ["part", "tensors", "parameters", "on disk", "type"];
        line(page, "");
        line(page, &row(columns.map(str::to_owned)));
        self.groups.iter().chain([&self.total]).for_each(|group| line(page, &row(group_cells(group))));
    }

    fn memory(&self, page: &mut String) {
        let columns = ["training", "weights", "gradients", "moments", "sum"];
        line(page, "");
        line(page, &row(columns.map(str::to_owned)));
        self.memory.iter().for_each(|stage| line(page, &row(stage_cells(stage))));
        line(page, "(bytes in f32 held between steps; activations come on top)");
    }
}

fn line(page: &mut String, text: &str) {
    page.push_str(text.trim_end());
    page.push('\n');
}

fn row([name, a, b, c, d]: [String; 5]) -> String {
    format!("{name:<NAME$}{a:>12}{b:>16}{c:>12}  {d:>10}")
}

fn group_cells(group: &Group) -> [String; 5] {
    let types: Vec<_> = group.dtypes.iter().map(ToString::to_string).collect();
    let (tensors, parameters) = (group.tensors as u64, group.parameters);
    [group.name.to_owned(), grouped(tensors), grouped(parameters), size(group.bytes), types.join("+")]
}

fn stage_cells(stage: &StageMemory) -> [String; 5] {
    let sizes = [stage.weight_bytes, stage.gradient_bytes, stage.moment_bytes, stage.total_bytes].map(size);
    let [weights, gradients, moments, sum] = sizes;
    [stage.stage.to_owned(), weights, gradients, moments, sum]
}

fn tensor_line(tensor: &TensorSummary) -> String {
    let axes: Vec<_> = tensor.shape.iter().map(ToString::to_string).collect();
    let axes = format!("[{}]", axes.join(", "));
    format!("{:<52} {axes:<18} {:<5} {}", tensor.name, tensor.dtype, tensor.file)
}

/// Digits in threes.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a unit of which there are at least one, in powers of 1024.
fn size(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, larger);
    }
    let mut text = String::new();
    let digits = usize::from(unit != "B");
    write!(text, "{number:.digits$} {unit}").expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(["7", "512", "1,024", "8,527,214,624"], [7, 512, 1024, 8_527_214_624].map(grouped));
        assert_eq!(["7 B", "1.0 KiB", "2.5 MiB"], [7, 1024, 5 << 19].map(size));
        assert_eq!(size(16 * 8_527_214_624), "127.1 GiB");
    }
}
