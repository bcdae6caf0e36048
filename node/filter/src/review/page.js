
"use strict";
// Verdicts by sample id, kept in this browser until they are saved as a file.
(() => {
  const cards = [...document.querySelectorAll("article")];
  const status = document.getElementById("status");
  const bar = document.querySelector("progress");
  const { page, samples } = document.body.dataset;
  const store = `talkoot-review-${page}`;
  const names = { keep: "keep", drop: "drop" };
  let verdicts = {};
  let kept = true;
  try {
    const before = JSON.parse(localStorage.getItem(store) ?? "{}");
    for (const { dataset } of cards) {
      if (Object.hasOwn(names, before[dataset.id])) verdicts[dataset.id] = before[dataset.id];
    }
  } catch {
    kept = false;
  }

  const given = (verdict) => cards.map((card) => card.dataset.id).filter((id) => verdicts[id] === verdict);

  const show = (card) => {
    const verdict = verdicts[card.dataset.id];
    card.classList.toggle("keep", verdict === "keep");
    card.classList.toggle("drop", verdict === "drop");
    card.querySelector(".given").textContent = verdict ?? "";
    for (const button of card.querySelectorAll("[data-verdict]")) {
      button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
    }
  };

  const tell = (more = "") => {
    const dropped = given("drop").length;
    const judged = given("keep").length + dropped;
    bar.value = judged;
    const where = kept ? "" : " This browser does not keep them: save before you close the page.";
    status.textContent = `${judged} of ${samples} judged, ${dropped} of them dropped.${more}${where}`;
  };

  const go = (at) => {
    const card = cards[Math.max(0, Math.min(cards.length - 1, at))];
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "start" });
  };

  const judge = (card, verdict) => {
    if (verdict === undefined) delete verdicts[card.dataset.id];
    else verdicts[card.dataset.id] = verdict;
    try {
      localStorage.setItem(store, JSON.stringify(verdicts));
    } catch {
      kept = false;
    }
    show(card);
    tell();
  };

  const save = () => {
    const file = { review: "talkoot review", version: 1, page, samples: Number(samples), keep: given("keep"), drop: given("drop") };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1) + "\n"], { type: "application/json" }));
    link.download = `verdicts-${page}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    tell(` Saved as ${link.download}.`);
  };

  // The sample in hand: the one with the focus, else the first that reaches into the window.
  const here = () => {
    const focused = cards.indexOf(document.activeElement?.closest("article"));
    if (focused >= 0) return focused;
    const below = cards.findIndex((card) => card.getBoundingClientRect().bottom > 80);
    return below < 0 ? cards.length - 1 : below;
  };

  const keys = {
    k: (at) => { judge(cards[at], "keep"); go(at + 1); },
    d: (at) => { judge(cards[at], "drop"); go(at + 1); },
    // A verdict by key moves on, so the one to take back is most often the card before.
    u: (at) => {
      const back = verdicts[cards[at].dataset.id] === undefined ? Math.max(0, at - 1) : at;
      judge(cards[back], undefined);
      go(back);
    },
    j: (at) => go(at + 1),
    ArrowRight: (at) => go(at + 1),
    b: (at) => go(at - 1),
    ArrowLeft: (at) => go(at - 1),
    n: (at) => {
      const open = (card) => verdicts[card.dataset.id] === undefined;
      const next = cards.findIndex((card, place) => place > at && open(card));
      const first = next < 0 ? cards.findIndex(open) : next;
      if (first >= 0) go(first);
    },
    s: () => save(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key](here());
  });
  document.querySelector("main").addEventListener("click", (event) => {
    const button = event.target.closest("[data-verdict]");
    if (!button) return;
    const card = button.closest("article");
    const again = verdicts[card.dataset.id] === button.dataset.verdict;
    judge(card, again ? undefined : button.dataset.verdict);
  });
  document.getElementById("save").addEventListener("click", save);
  cards.forEach(show);
  tell();
})();
