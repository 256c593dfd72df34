// Runs in a page around the report: looks for texts that overlap or are cut, and says what it found on the console.
const frame = document.querySelector('iframe');
frame.onload = () => {
  const page = frame.contentDocument, found = [];
  page.querySelectorAll('details').forEach(part => part.open = true);
  const shown = text => JSON.stringify(text.textContent);
  let texts = 0;
  for (const svg of page.querySelectorAll('svg')) {
    const of = svg.getBoundingClientRect(), title = svg.getAttribute('aria-label');
    const all = [...svg.querySelectorAll('text')].map(text => [text, text.getBoundingClientRect()]);
    texts += all.length;
    all.forEach(([text, a], at) => {
      if (a.left < of.left - 1 || a.right > of.right + 1 || a.top < of.top - 1 || a.bottom > of.bottom + 1)
        found.push(`${title}: ${shown(text)} is cut`);
      for (const [other, b] of all.slice(at + 1))
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2)
          found.push(`${title}: ${shown(text)} overlaps ${shown(other)}`);
    });
  }
  for (const part of page.querySelectorAll('html, h1, h2, h3, p, figcaption, dt, dd, summary, .verdict, .charts, figure'))
    if (part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== 'inline')
      found.push(`<${part.localName} class="${part.className}"> is wider than its place: ${shown(part).slice(0, 80)}`);
  if (frame.clientWidth > 1000)
    for (const table of page.querySelectorAll('.scroll'))
      if (table.scrollWidth > table.clientWidth + 1) found.push(`a table is wider than the page: ${shown(table).slice(0, 80)}`);
  const header = page.querySelector('th.number button');
  header?.click();
  if (header && !header.parentNode.hasAttribute('aria-sort')) found.push('a click on a header does not sort');
  header?.click();
  found.slice(0, 20).forEach(one => console.error(one));
  console.log(`checked ${texts} texts, dark ${matchMedia('(prefers-color-scheme: dark)').matches}`);
};
