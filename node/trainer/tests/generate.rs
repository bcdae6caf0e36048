//! Generation with a cache against whole passes, prompts together against prompts alone, and given answers' losses.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "inner/synthetic.rs"]
mod synthetic;

use std::sync::OnceLock;

use synthetic::{questions, tiny_model};
use talkoot_trainer::{
    batch::NOT_LEARNED,
    config::ModelConfig,
    cpu::Cpu,
    generate::{GenerateError, Generated, Generator, Prompt, SampleError, Sampling, Stop},
    model::{Batch, Model, Sample},
    patches::Picture,
    state::State,
};

/// The processor, one for all tests.
fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(Cpu::default)
}

struct Small {
    config: ModelConfig,
    state: State,
    generator: Generator<'static, Cpu>,
}

fn small() -> Small {
    let config = tiny_model();
    let state = State::initial(&config, 5);
    let generator = Generator::new(cpu(), &config, &state).unwrap();
    Small { config, state, generator }
}

/// Prompts of many lengths, with no, one and two pictures.
fn prompts() -> Vec<Prompt> {
    let asked: Vec<Prompt> = questions(6, 2).1.into_iter().map(|(prompt, _)| prompt).collect();
    let mut prompts = vec![Prompt { tokens: vec![9], images: vec![] }];
    for (i, pair) in asked.windows(2).enumerate() {
        let mut prompt = pair[0].clone();
        prompt.tokens.extend((0..i as u32).map(|token| 7 + token % 50));
        if i % 3 == 2 {
            prompt.tokens.extend(&pair[1].tokens);
            prompt.images.extend(pair[1].images.clone());
        }
        prompts.push(prompt);
    }
    prompts.push(Prompt { tokens: (3..40).collect(), images: vec![] });
    prompts
}

/// Logits behind the last token, from a pass over the whole text.
fn from_scratch(small: &Small, tokens: &[u32], prompt: &Prompt) -> Vec<f32> {
    let model = Model::new(cpu(), &small.config, &small.state).unwrap();
    let pictures = prompt.images.iter().map(|image| Picture::new(image, &small.config.vision)).collect();
    let sample = Sample { labels: vec![NOT_LEARNED; tokens.len()], tokens: tokens.to_vec(), pictures };
    let hidden = model.hidden(&Batch::new(&[sample], &small.config), None).unwrap();
    let logits = model.logits(&model.final_norm(&hidden).unwrap()).unwrap();
    logits[(tokens.len() - 1) * small.config.text.vocab_size..].to_vec()
}

/// Not a bit depends on what was computed before, or in which company.
fn assert_same_bits(found: &[f32], expected: &[f32], what: &str) {
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(found), bits(expected), "{what}: {found:?} instead of {expected:?}");
}

#[test]
fn the_cache_says_what_a_pass_from_scratch_says_at_every_step() {
    let small = small();
    let warm = Sampling { temperature: 1.0, seed: 8, ..Sampling::default() };
    for prompt in prompts() {
        for sampling in [Sampling::default(), warm] {
            let mut cached = small.generator.sampler(sampling, 0).unwrap();
            let mut scratch = small.generator.sampler(sampling, 0).unwrap();
            let mut conversation = small.generator.conversation();
            conversation.extend(&prompt).unwrap();
            for step in 0..6 {
                let logits = conversation.logits().unwrap();
                let expected = from_scratch(&small, conversation.tokens(), &prompt);
                assert_same_bits(&logits, &expected, &format!("step {step}"));
                let token = cached.choose(&logits).unwrap();
                assert_eq!(token, scratch.choose(&expected).unwrap(), "step {step}");
                conversation.push(token).unwrap();
            }
        }
    }
}

#[test]
fn prompts_of_all_lengths_together_get_the_answers_that_they_get_alone() {
    let small = small();
    let prompts = prompts();
    let ends = [30, 31, 32];
    for sampling in [Sampling::default(), Sampling { temperature: 1.5, seed: 3, ..Sampling::default() }] {
        let sampler = |answer| small.generator.sampler(sampling, answer).unwrap();
        let samplers = (0..prompts.len() as u64).map(sampler).collect();
        let together = small.generator.generate(&prompts, samplers, &ends, 9).unwrap();
        for (i, (prompt, answer)) in prompts.iter().zip(&together).enumerate() {
            let alone = small
                .generator
                .generate(std::slice::from_ref(prompt), vec![sampler(i as u64)], &ends, 9)
                .unwrap();
            assert_eq!(&alone[0], answer, "prompt {i}");
            assert!(answer.tokens.len() <= 9 && answer.tokens.iter().all(|token| !ends.contains(token)));
            assert_eq!(answer.stop == Stop::Length, answer.tokens.len() == 9);
        }
    }
}

#[test]
fn a_text_in_pieces_is_the_text_in_one() {
    let small = small();
    let pieces: Vec<Prompt> = prompts().into_iter().skip(2).take(4).collect();
    let mut conversation = small.generator.conversation();
    assert!(conversation.logits().unwrap().is_empty());
    let mut whole = Prompt::default();
    for piece in &pieces {
        conversation.extend(piece).unwrap();
        whole.tokens.extend(&piece.tokens);
        whole.images.extend(piece.images.clone());
        let mut once = small.generator.conversation();
        once.extend(&whole).unwrap();
        assert_eq!(once.tokens(), conversation.tokens());
        let logits = once.logits().unwrap();
        assert_same_bits(&conversation.logits().unwrap(), &logits, "one piece");
        assert_same_bits(&from_scratch(&small, &whole.tokens, &whole), &logits, "from scratch");
    }
    assert_eq!(conversation.room(), small.config.text.max_position_embeddings - whole.tokens.len());
}

#[test]
fn given_answers_have_the_losses_of_training() {
    let small = small();
    let prompts = prompts();
    let answers: Vec<Vec<Vec<u32>>> = (0..prompts.len() as u32)
        .map(|i| (0..i % 4).map(|j| (0..(i + j) % 5).map(|k| (i * 7 + j * 3 + k) % 60).collect()).collect())
        .collect();
    assert!(answers.iter().flatten().any(Vec::is_empty) && answers.iter().any(Vec::is_empty));
    let found = small.generator.answer_losses(&prompts, &answers).unwrap();
    let model = Model::new(cpu(), &small.config, &small.state).unwrap();
    for ((prompt, answers), losses) in prompts.iter().zip(&answers).zip(found) {
        assert_eq!(losses.len(), answers.len());
        for (answer, losses) in answers.iter().zip(losses) {
            assert_eq!(losses.len(), answer.len());
            if answer.is_empty() {
                continue;
            }
            let mut labels = vec![NOT_LEARNED; prompt.tokens.len()];
            labels.extend(answer.iter().map(|&token| i64::from(token)));
            let pictures =
                prompt.images.iter().map(|image| Picture::new(image, &small.config.vision)).collect();
            let sample =
                Sample { tokens: [prompt.tokens.clone(), answer.clone()].concat(), labels, pictures };
            let expected = model.losses(&Batch::new(&[sample], &small.config)).unwrap();
            assert_same_bits(&losses, &expected, "an answer");
        }
    }
}

#[test]
fn an_answer_ends_where_the_models_text_does() {
    let mut config = tiny_model();
    config.text.max_position_embeddings = 12;
    let state = State::initial(&config, 5);
    let generator = Generator::new(cpu(), &config, &state).unwrap();
    let text = |length| Prompt { tokens: vec![5; length], images: vec![] };
    let answers = generator.generate(&[text(9), text(12)], vec![greedy(&generator); 2], &[], 50).unwrap();
    assert_eq!(answers[0].tokens.len(), 3);
    assert_eq!(answers[1], Generated { tokens: vec![], stop: Stop::Length });
    let error = generator.answer(&[text(2), text(13)], &[], 1).unwrap_err();
    assert!(matches!(error, GenerateError::TooLong { prompt: 1, tokens: 13, limit: 12 }), "{error}");
    let mut conversation = generator.conversation();
    conversation.extend(&text(10)).unwrap();
    let error = conversation.extend(&text(3)).unwrap_err();
    assert!(matches!(error, GenerateError::TooLong { tokens: 13, .. }), "{error}");
    assert_eq!(conversation.tokens().len(), 10);
    conversation.extend(&text(2)).unwrap();
    let error = generator.answer_losses(&[text(9)], &[vec![vec![1; 3], vec![1; 4]]]).unwrap_err();
    assert!(matches!(error, GenerateError::TooLong { tokens: 13, .. }), "{error}");
}

#[test]
fn prompts_and_answers_that_do_not_fit_are_refused_with_their_place() {
    let generator = small().generator;
    let text = |tokens: &[u32]| Prompt { tokens: tokens.to_vec(), images: vec![] };
    let error = generator.answer(&[text(&[1]), text(&[64])], &[], 1).unwrap_err();
    assert!(matches!(error, GenerateError::Prompt { prompt: 1, .. }), "{error}");
    // an image token without its picture
    let error = generator.check(&text(&[1, 63])).unwrap_err();
    assert!(matches!(error, GenerateError::Prompt { prompt: 0, .. }), "{error}");
    assert!(generator.check(&text(&[])).is_err());
    let error = generator.answer_losses(&[text(&[1])], &[vec![vec![2], vec![63]]]).unwrap_err();
    assert!(matches!(error, GenerateError::Answer { prompt: 0, answer: 1, .. }), "{error}");
    let error = generator.sampler(Sampling { top_p: 2.0, ..Sampling::default() }, 0).unwrap_err();
    assert!(matches!(error, SampleError::Setting { setting: "top_p", .. }), "{error}");
}

#[test]
fn broken_weights_are_said_to_be_broken() {
    let config = tiny_model();
    let mut state = State::initial(&config, 5);
    state.tensors.get_mut("model.norm.weight").unwrap().values[3] = f32::NAN;
    let generator = Generator::new(cpu(), &config, &state).unwrap();
    let error = generator.answer(&[Prompt { tokens: vec![1], images: vec![] }], &[], 3).unwrap_err();
    assert!(matches!(error, GenerateError::Sample(SampleError::NotFinite { .. })), "{error}");
}

#[test]
fn picture_tokens_are_never_said() {
    let config = ModelConfig { video_token_id: Some(61), ..tiny_model() };
    let mut state = State::initial(&config, 5);
    // the head wants nothing but these two: their rows are the sum of all directions, far larger than the others
    let width = config.text.hidden_size;
    let head = &mut state.tensors.get_mut("lm_head.weight").unwrap().values;
    let large: Vec<f32> = head[..width].iter().map(|x| 1000.0 * x).collect();
    for token in [61, 63] {
        head[token * width..(token + 1) * width].copy_from_slice(&large);
    }
    let generator = Generator::new(cpu(), &config, &state).unwrap();
    let prompts = prompts();
    for sampling in [Sampling::default(), Sampling { temperature: 2.0, ..Sampling::default() }] {
        let samplers = vec![generator.sampler(sampling, 1).unwrap(); prompts.len()];
        let answers = generator.generate(&prompts, samplers, &[], 8).unwrap();
        assert!(answers.iter().flat_map(|answer| &answer.tokens).all(|&token| token != 61 && token != 63));
    }
}

fn greedy(generator: &Generator<'_, Cpu>) -> talkoot_trainer::generate::Sampler {
    generator.sampler(Sampling::default(), 0).unwrap()
}
