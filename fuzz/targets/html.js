// Does with a page what the input says: each call on what the one before has found. It is a teardown,
// because that gets other data each time.

import { parseHTML } from 'k6/html';

// Everything an element has, and what its methods answer.
function touch(element) {
  for (const name of Object.keys(element)) {
    const member = element[name];
    if (typeof member === 'function') {
      try { member.call(element, 'class'); } catch (_) { /* an answer as well */ }
    }
  }
  return String(element);
}

const visit = (_, element) => touch(element).length % 2 === 0;

function argument(text, root) {
  if (text === '=>') return visit;
  if (/^-?\d+$/.test(text)) return Number(text);
  if (text.startsWith('$')) return root.find(text.slice(1));
  if (text.startsWith('%')) return root.find(text.slice(1)).get(0);
  return text;
}

export function teardown({ calls, page }) {
  let root;
  // A page that nests too deep is refused.
  try { root = parseHTML(page); } catch (_) { return; }
  let at = root;
  for (const [name, ...args] of calls) {
    try {
      const member = at[name];
      const found = typeof member === 'function'
        ? member.apply(at, args.map((text) => argument(text, root)))
        : member;
      for (const one of Array.isArray(found) ? found.slice(0, 8) : [found]) {
        if (one && typeof one === 'object' && 'nodeName' in one) touch(one);
      }
      if (found && typeof found === 'object' && !Array.isArray(found)) at = found;
    } catch (_) { /* an answer as well */ }
  }
}
