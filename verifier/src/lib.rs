//! Challenges, replays, gives verdicts; audit for strangers.
