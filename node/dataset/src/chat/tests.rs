use super::*;
use crate::{preprocess::tests::oracle, tokenizer::build_demo_tokenizer};

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(&build_demo_tokenizer(&["user assistant system A cat."], 290).unwrap()).unwrap()
}

#[test]
fn segments_match_the_reference() {
    let Some(folder) = oracle("chat") else { return };
    let text = std::fs::read_to_string(folder.join("chat.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tokenizer = tokenizer();
    let cases = cases["training_segments"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let messages: Vec<Message> = case["conversation"]
            .as_array()
            .unwrap()
            .iter()
            .map(|turn| Message {
                role: serde_json::from_value(turn["role"].clone()).unwrap(),
                text: turn["content"].as_str().unwrap().to_owned(),
            })
            .collect();
        let sizes: Vec<usize> = case["grids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|grid| {
                grid.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).product::<usize>() / 4
            })
            .collect();
        let wanted: Vec<Segment> = case["trainer_segments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| Segment {
                text: s["text"].as_str().unwrap().into(),
                learn: s["learn"].as_bool().unwrap(),
            })
            .collect();
        assert_eq!(training_segments(&messages, &sizes).unwrap(), wanted, "{}", case["name"]);

        // Ids: what the tokenizer makes of each segment's text, learnt where the segment is.
        let mut expected = Encoded::default();
        for segment in &wanted {
            for id in tokenizer.encode(&segment.text).unwrap() {
                expected.tokens.push(id);
                expected.labels.push(if segment.learn { id.into() } else { NOT_LEARNED });
            }
        }
        assert_eq!(encode_for_training(&messages, &sizes, &tokenizer).unwrap(), expected);
    }
}

#[test]
fn generation_starts_with_the_very_tokens_of_training() {
    let tokenizer = tokenizer();
    let talk = [Message::user("<image>\nWhat is it?"), Message::assistant("A cat."), Message::user("Sure?")];
    let text = prompt_for_generation(&talk, &[2]).unwrap();
    assert!(
        text.starts_with("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    );
    assert!(text.contains("<|vision_start|><|image_pad|><|image_pad|><|vision_end|>\nWhat is it?<|im_end|>"));
    assert!(text.ends_with("A cat.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"));
    let prompt = encode_prompt(&talk, &[2], &tokenizer).unwrap();
    let mut whole = talk.to_vec();
    whole.push(Message::assistant("Yes."));
    let trained = encode_for_training(&whole, &[2], &tokenizer).unwrap();
    assert_eq!(trained.tokens[..prompt.len()], prompt);
    assert!(trained.labels[prompt.len()..].iter().all(|&label| label >= 0));
}

#[test]
fn bad_conversations_are_refused_for_their_reason() {
    let user = Message::user("<image>hi");
    let answer = Message::assistant("yes");
    let system = Message { role: Role::System, text: "Be brief.".into() };
    let refused = |messages: &[Message], pictures| check(messages, pictures).unwrap_err();
    assert!(matches!(refused(&[], 0), ChatError::Empty));
    assert!(matches!(refused(std::slice::from_ref(&system), 0), ChatError::Empty));
    assert!(matches!(refused(std::slice::from_ref(&user), 1), ChatError::WrongEnd { got: Role::User, .. }));
    assert!(matches!(
        refused(&[user.clone(), answer.clone()], 0),
        ChatError::Placeholders { placeholders: 1, pictures: 0 }
    ));
    assert!(matches!(refused(&[answer.clone(), user.clone()], 1), ChatError::OutOfTurn { turn: 0, .. }));
    assert!(matches!(refused(&[user.clone(), system], 1), ChatError::OutOfTurn { turn: 1, .. }));
    assert!(matches!(
        refused(&[user.clone(), Message::assistant(" \n")], 1),
        ChatError::EmptyAnswer { turn: 1 }
    ));
    assert!(matches!(
        refused(&[user.clone(), Message::assistant("<image>")], 1),
        ChatError::MisplacedPicture { turn: 1, role: Role::Assistant }
    ));
    assert!(matches!(
        refused(&[user, Message::assistant("x<|im_end|>")], 1),
        ChatError::SpecialInText { turn: 1, token: "<|im_end|>" }
    ));
    assert!(check(&[Message::user("hi"), answer], 0).is_ok());
}

#[test]
fn a_next_turn_is_the_end_of_the_whole_conversation() {
    let tokenizer = tokenizer();
    let first = [Message::user("<image>\nWhat is it?")];
    let answer = Message::assistant("A cat.");
    let whole = [first[0].clone(), answer.clone(), Message::user("And <image> this?")];
    let mut pieces = encode_prompt(&first, &[3], &tokenizer).unwrap();
    pieces.extend(tokenizer.encode(&answer.text).unwrap());
    pieces.push(tokenizer.special_ids().im_end);
    pieces.extend(encode_next_turn("And <image> this?", &[2], &tokenizer).unwrap());
    assert_eq!(pieces, encode_prompt(&whole, &[3, 2], &tokenizer).unwrap());
    assert!(matches!(
        encode_next_turn("And this?", &[2], &tokenizer),
        Err(ChatError::Placeholders { placeholders: 0, pictures: 1 })
    ));
    assert!(matches!(
        encode_next_turn("<|im_end|>", &[], &tokenizer),
        Err(ChatError::SpecialInText { token: "<|im_end|>", .. })
    ));
}
