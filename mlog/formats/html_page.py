"""The fixed parts of the HTML page: its policy, its style and its script.

The page must not reach the network, whatever people wrote into it: the policy allows this style and this
script, by their hash, and nothing else; no picture, no frame, no form, no address. The script only
hides, marks and counts what the page holds, and never makes markup of text. Without it, or on
paper, everything is there but the search.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

__all__ = ["HUES", "POLICY", "SCRIPT", "STYLE"]

HUES: Final = 12
"""Colours of authors, `.h0` and on."""

STYLE: Final = """
:root { color-scheme: light dark; --paper: #faf9f7; --card: #fff; --ink: #23211e; --soft: #6b665f;
  --line: #e5e1da; --mark: #ffe08a; --target: #fff3cd; --l: 40%; --a: 90%;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
@media (prefers-color-scheme: dark) { :root { --paper: #17181a; --card: #202225; --ink: #e6e3de;
  --soft: #a29d95; --line: #34373b; --mark: #7a5c00; --target: #3a3216; --l: 72%; --a: 24%; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); }
body > header, main, footer { max-width: 48rem; margin: 0 auto; padding: 0 1rem; }
body > header { padding-top: 2.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
p.about, footer { color: var(--soft); font-size: .875rem; margin: 0 auto; }
footer { padding-top: 1.5rem; padding-bottom: 3rem; }
.bar { position: sticky; top: 0; z-index: 2; background: var(--paper); border-bottom: 1px solid var(--line); }
.bar > div { max-width: 48rem; margin: .75rem auto 0; padding: .6rem 1rem; display: flex; gap: .6rem;
  align-items: center; flex-wrap: wrap; }
.bar[hidden] { display: none; }
input, select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; padding: .35rem .7rem; }
input { flex: 1 1 12rem; min-width: 0; }
output { color: var(--soft); font-size: .875rem; min-width: 7.5em; text-align: end; }
:focus-visible { outline: 2px solid hsl(215 80% 55%); outline-offset: 1px; }
h2 { font-size: .8125rem; font-weight: 600; color: var(--soft); text-align: center; margin: 1.75rem 0 .5rem;
  display: flex; align-items: center; gap: .75rem; scroll-margin-top: 5rem; }
h2::before, h2::after { content: ""; flex: 1; border-top: 1px solid var(--line); }
.run { content-visibility: auto; contain-intrinsic-size: auto 3200px; }
.run.short { contain-intrinsic-size: auto 320px; }
article { position: relative; padding: .3rem .5rem .3rem 3.25rem; border-radius: .6rem; margin-top: .45rem;
  scroll-margin-top: 5rem; }
article.on { margin-top: 0; }
article:target { background: var(--target); }
.who { font-weight: 600; color: hsl(var(--h) 55% var(--l)); overflow-wrap: anywhere; }
.said { text-decoration: underline dotted 1px; text-underline-offset: .2em; }
.face { position: absolute; left: .4rem; top: .45rem; width: 2.2rem; height: 2.2rem; border-radius: 50%;
  display: grid; place-items: center; font-weight: 600; overflow: hidden;
  color: hsl(var(--h) 55% var(--l)); background: hsl(var(--h) 55% var(--a)); }
.on > .face, .event > .face { display: none; }
.at { color: var(--soft); font-size: .8125rem; text-decoration: none; margin-inline-start: .35rem; }
.at:hover { text-decoration: underline; }
.on > .head { position: absolute; left: 0; width: 3rem; text-align: end; line-height: 1.5rem; }
.on > .head .at { margin: 0; font-size: .6875rem; opacity: 0; }
.on:hover > .head .at, .on > .head .at:focus { opacity: 1; }
.on > .head .who, .quiet { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.searching .on { margin-top: .45rem; }
.searching .on > .head, .searching .on > .head .who { position: static; width: auto; height: auto;
  clip-path: none; text-align: start; white-space: normal; }
.searching .on > .head .at { opacity: 1; font-size: .8125rem; margin-inline-start: .35rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.event, .gone .text { color: var(--soft); font-style: italic; }
.event { font-size: .9rem; }
.event > .head, .event > .text { display: inline; }
.event > .text { unicode-bidi: isolate; }
.event .who { font-weight: 500; }
.re { display: block; color: var(--soft); font-size: .875rem; text-decoration: none; margin: .1rem 0 .15rem;
  border-inline-start: 3px solid var(--line); padding-inline-start: .6rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
a.re:hover { border-color: currentColor; }
details { color: var(--soft); font-size: .875rem; }
summary { cursor: pointer; width: fit-content; }
a.re b { font-weight: 600; }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: .35rem; padding: 0; margin: .25rem 0 0; }
li { background: var(--card); border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem;
  font-size: .8125rem; overflow-wrap: anywhere; }
[hidden] { display: none !important; }
::highlight(found) { background: var(--mark); }
.h0 { --h: 210; } .h1 { --h: 25; } .h2 { --h: 140; } .h3 { --h: 280; } .h4 { --h: 350; } .h5 { --h: 180; }
.h6 { --h: 50; } .h7 { --h: 240; } .h8 { --h: 95; } .h9 { --h: 315; } .h10 { --h: 5; } .h11 { --h: 160; }
@media (max-width: 30rem) { article { padding-left: 2.9rem; } .face { left: .1rem; } }
@page { margin: 18mm 15mm; }
@media print {
  :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --l: 25%;
    --target: #fff; font-size: 10pt; }
  .bar { display: none; }
  body > header, main, footer { max-width: none; padding: 0; }
  .run { content-visibility: visible; }
  .face { display: none; }
  article { padding: .1rem 0; break-inside: avoid; }
  .on > .head { display: none; }
  h2 { break-after: avoid; }
}
"""

SCRIPT: Final = """
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const box = $("find"), day = $("day"), count = $("count");
  const runs = Array.from(document.querySelectorAll(".run"), (run) => [run, Array.from(run.children)]);
  const sections = Array.from(document.querySelectorAll("section"));
  const plain = (text) => text.normalize("NFKD").replace(/\\p{M}/gu, "").toLowerCase();
  const said = (one) => Array.from(one.querySelectorAll(".who, .text"));
  const marks = window.CSS && CSS.highlights && window.Highlight ? new Highlight() : null;
  if (marks) CSS.highlights.set("found", marks);
  let texts = null, timer = 0;

  const total = runs.reduce((sum, [, all]) => sum + all.length, 0);
  const say = (n) => { count.textContent = n === total ? total.toLocaleString("en") + " messages"
    : n.toLocaleString("en") + " of " + total.toLocaleString("en"); };

  const mark = (words, shown) => {
    if (!marks) return;
    marks.clear();
    if (!words.length) return;
    const literal = (word) => word.replace(/[\\\\^$.*+?()[\\]{}|]/g, "\\\\$&");
    const any = new RegExp(words.map(literal).join("|"), "giu");
    for (const one of shown.slice(0, 500).flatMap(said)) {
      const walker = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        for (const found of node.data.matchAll(any)) {
          const range = new Range();
          range.setStart(node, found.index);
          range.setEnd(node, found.index + found[0].length);
          marks.add(range);
        }
      }
    }
  };

  const search = () => {
    const typed = box.value.trim().split(/\\s+/u).filter(Boolean);
    const words = typed.map(plain);
    if (words.length && !texts) {
      texts = new Map();
      for (const [, all] of runs) for (const one of all) {
        texts.set(one, plain(said(one).map((part) => part.textContent).join("\\n")));
      }
    }
    const shown = [];
    for (const [run, all] of runs) {
      let some = false;
      for (const one of all) {
        const fits = words.every((word) => texts.get(one).includes(word));
        if (one.hidden === fits) one.hidden = !fits;
        if (fits) { some = true; if (words.length) shown.push(one); }
      }
      if (run.hidden === some) run.hidden = !some;
    }
    for (const section of sections) {
      section.hidden = !section.querySelector(".run:not([hidden])");
    }
    document.body.classList.toggle("searching", words.length > 0);
    say(words.length ? shown.length : total);
    try { mark(typed, shown); } catch { /* A word that no pattern can hold is found, only not marked. */ }
  };

  const clear = () => { box.value = ""; search(); };
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 120); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== box) { event.preventDefault(); box.focus(); }
    if (event.key === "Escape" && event.target === box) clear();
  });
  // A link to a message that the search has hidden ends the search.
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest('a[href^="#m"]');
    const aim = link && $(link.getAttribute("href").slice(1));
    if (aim && aim.closest("[hidden]")) clear();
  });
  for (const heading of document.querySelectorAll("h2")) day.add(new Option(heading.textContent, heading.id));
  day.addEventListener("change", () => {
    if (!day.value) return;
    if (box.value) clear();
    $(day.value).scrollIntoView();
    day.value = "";
  });
  say(total);
  document.querySelector(".bar").hidden = false;
})();
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY: Final = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'; "
    "form-action 'none'"
)
