//! A conversation in words: turns with pictures in, text out while it comes.
//!
//! What was said stays in the model's cache, so a turn costs its own tokens only. The model's own tokens stay as they
//! were chosen; they are not encoded again from their text.

use talkoot_dataset::{
    Rgb,
    chat::{self, ChatError, IMAGE_PLACEHOLDER, Message, Role},
    tokenizer::TokenizerError,
};
use talkoot_trainer::{
    cpu::Cpu,
    generate::{Conversation, GenerateError, Prompt, Sampling, Stop},
};

use crate::assistant::{Assistant, image};

/// A conversation with a model.
#[derive(Debug)]
pub struct Dialogue<'a> {
    assistant: &'a Assistant,
    conversation: Conversation<'a, Cpu>,
    system: Option<String>,
    turns: u64,
    /// Tokens that belong to the text and have not been read yet: they go in front of the next turn.
    owed: Vec<u32>,
}

/// How a turn is answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Manner {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Its tokens, without the end.
    pub tokens: Vec<u32>,
    /// Tokens that were read for this turn: what was new.
    pub prompt_tokens: usize,
    /// Tokens of the whole conversation, this answer included.
    pub context_tokens: usize,
    /// Why it ended.
    pub stop: Stop,
}

/// Why a turn was not answered. The conversation goes on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialogueError {
    /// The turn cannot be written out.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model could not answer.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

impl Assistant {
    /// A conversation without a turn yet, with this system text or the usual one.
    pub fn dialogue(&self, system: Option<String>) -> Dialogue<'_> {
        let conversation = self.generator().conversation();
        Dialogue { assistant: self, conversation, system, turns: 0, owed: Vec::new() }
    }
}

impl Dialogue<'_> {
    /// Asks `question` about `pictures`, and calls `hear` with each piece of the answer. Pictures without a place in the
    /// question come first.
    ///
    /// # Errors
    ///
    /// [`DialogueError`] when pictures and places don't fit, the conversation becomes too long, a setting is out of
    /// range or the model cannot run.
    pub fn ask(
        &mut self,
        question: &str,
        pictures: Vec<Rgb>,
        manner: &Manner,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Reply, DialogueError> {
        let generator = self.assistant.generator();
        let mut sampler = generator.sampler(manner.sampling, self.turns).map_err(GenerateError::from)?;
        let prompt = self.prompt(question, pictures)?;
        self.conversation.extend(&prompt)?;
        self.owed.clear();
        self.turns += 1;
        sampler.observe(self.conversation.tokens());
        let mut answer = Answer { tokens: Vec::new(), stop: Stop::Length, unread: None };
        let mut stream = self.assistant.tokenizer().stream();
        let said = loop {
            if answer.tokens.len() >= manner.max_new_tokens || self.conversation.room() == 0 {
                break Ok(());
            }
            match self.next(&mut sampler, &mut answer) {
                Ok(Some(token)) => hear(&stream.push(token)?),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // The text stays one that the next turn can go on from, whatever happened.
        self.owed.extend(answer.unread);
        self.owed.push(self.assistant.tokenizer().special_ids().im_end);
        said?;
        hear(&stream.finish()?);
        Ok(Reply {
            text: self.assistant.tokenizer().decode(&answer.tokens)?,
            prompt_tokens: prompt.tokens.len(),
            context_tokens: self.conversation.tokens().len() + usize::from(answer.unread.is_some()),
            tokens: answer.tokens,
            stop: answer.stop,
        })
    }

    /// Reads the last chosen token and chooses the next; nothing at the end.
    fn next(
        &mut self,
        sampler: &mut talkoot_trainer::generate::Sampler,
        answer: &mut Answer,
    ) -> Result<Option<u32>, GenerateError> {
        if let Some(token) = answer.unread.take() {
            self.conversation.push(token)?;
        }
        let token = sampler.choose(&self.conversation.logits()?)?;
        if self.assistant.ends().contains(&token) {
            answer.stop = Stop::End(token);
            return Ok(None);
        }
        answer.tokens.push(token);
        answer.unread = Some(token);
        Ok(Some(token))
    }

    /// Forgets all turns.
    pub fn reset(&mut self) {
        *self = self.assistant.dialogue(self.system.take());
    }

    /// Tokens of the conversation so far.
    pub fn tokens(&self) -> &[u32] {
        self.conversation.tokens()
    }

    fn prompt(&self, question: &str, pictures: Vec<Rgb>) -> Result<Prompt, DialogueError> {
        let tokenizer = self.assistant.tokenizer();
        let sizes: Vec<usize> = pictures.iter().map(Rgb::llm_tokens).collect();
        let question = if question.contains(IMAGE_PLACEHOLDER) {
            question.to_owned()
        } else {
            format!("{IMAGE_PLACEHOLDER}\n").repeat(pictures.len()) + question
        };
        let tokens = if self.conversation.tokens().is_empty() {
            let system = self.system.iter().map(|text| Message { role: Role::System, text: text.clone() });
            let messages: Vec<Message> = system.chain([Message::user(question)]).collect();
            chat::encode_prompt(&messages, &sizes, tokenizer)?
        } else {
            let turn = chat::encode_next_turn(&question, &sizes, tokenizer)?;
            [self.owed.as_slice(), &turn].concat()
        };
        Ok(Prompt { tokens, images: pictures.into_iter().map(image).collect() })
    }
}

/// An answer that is being given.
struct Answer {
    tokens: Vec<u32>,
    stop: Stop,
    /// The last token, as long as the model has not read it.
    unread: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assistant::tests::World;

    const GREEDY: fn(usize) -> Manner =
        |max_new_tokens| Manner { sampling: Sampling { temperature: 0.0, ..WARM }, max_new_tokens };
    const WARM: Sampling =
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 3 };

    #[test]
    fn turns_with_a_kept_cache_are_what_one_long_prompt_is() {
        let world = World::new();
        let assistant = world.assistant();
        let picture = |number| assistant.picture(&world.picture(number)).unwrap();
        let mut dialogue = assistant.dialogue(Some("Be brief.".to_owned()));
        let mut heard = String::new();
        let turns = [("What is it?", vec![0]), ("Sure?", vec![]), ("<image> And that?", vec![1])];
        let mut replies = Vec::new();
        for (question, pictures) in &turns {
            let pictures = pictures.iter().map(|&number| picture(number)).collect();
            heard.clear();
            let reply = dialogue.ask(question, pictures, &GREEDY(6), &mut |piece| heard += piece).unwrap();
            assert_eq!(heard, reply.text);
            replies.push(reply);
        }
        // The same text at once: every turn's tokens, and the answers' own tokens, in one prompt.
        let whole = dialogue.tokens().to_vec();
        let answer = &replies[2].tokens;
        let prompt_end = whole.len() - (answer.len() - usize::from(replies[2].stop == Stop::Length));
        let images = vec![image(picture(0)), image(picture(1))];
        let prompt = Prompt { tokens: whole[..prompt_end].to_vec(), images };
        let once = assistant.generator().answer(&[prompt], assistant.ends(), 6).unwrap();
        assert_eq!(&once[0], answer);
        // Nothing was read twice.
        let read: usize = replies.iter().map(|reply| reply.prompt_tokens).sum();
        let said: usize = replies.iter().map(|reply| reply.tokens.len()).sum();
        let unread = replies.iter().filter(|reply| reply.stop == Stop::Length).count();
        assert_eq!(read + said - unread, whole.len());
        let text = assistant.tokenizer().decode_all(&whole).unwrap();
        assert!(text.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"), "{text}");
        assert_eq!(text.matches("<|im_start|>assistant").count(), 3, "{text}");
        assert_eq!(text.matches("<|im_end|>\n<|im_start|>user").count(), 3, "{text}");
    }

    #[test]
    fn a_refused_turn_leaves_the_conversation_as_it_was() {
        let mut world = World::new();
        world.config.text.max_position_embeddings = 60;
        let assistant = world.assistant();
        let ask =
            |dialogue: &mut Dialogue<'_>, text: &str| dialogue.ask(text, vec![], &GREEDY(2), &mut |_| ());
        let mut dialogue = assistant.dialogue(None);
        ask(&mut dialogue, "one").unwrap();
        let before = (dialogue.tokens().to_vec(), dialogue.owed.clone());
        let misplaced = ask(&mut dialogue, "<image>").unwrap_err();
        assert!(matches!(misplaced, DialogueError::Chat(ChatError::Placeholders { .. })), "{misplaced}");
        let long = ask(&mut dialogue, &"count ".repeat(60)).unwrap_err();
        assert!(matches!(long, DialogueError::Generate(GenerateError::TooLong { limit: 60, .. })), "{long}");
        assert_eq!(before, (dialogue.tokens().to_vec(), dialogue.owed.clone()));
        let second = ask(&mut dialogue, "two").unwrap();
        let mut fresh = assistant.dialogue(None);
        ask(&mut fresh, "one").unwrap();
        assert_eq!(second, ask(&mut fresh, "two").unwrap());
        dialogue.reset();
        assert_eq!(ask(&mut dialogue, "one").unwrap().prompt_tokens, before.0.len() - 1);
    }

    #[test]
    fn a_seed_repeats_an_answer_and_another_gives_another() {
        let world = World::new();
        let assistant = world.assistant();
        let say = |seed| {
            let manner = Manner { sampling: Sampling { seed, ..WARM }, max_new_tokens: 12 };
            assistant.dialogue(None).ask("count", vec![], &manner, &mut |_| ()).unwrap().tokens
        };
        assert_eq!(say(1), say(1));
        assert_ne!(say(1), say(2));
    }
}
