document.querySelectorAll('th button').forEach(button => button.addEventListener('click', () => {
  const header = button.parentNode, at = header.cellIndex, body = header.closest('table').tBodies[0];
  const down = header.classList.contains('number') ? header.ariaSort !== 'descending' : header.ariaSort === 'ascending';
  header.parentNode.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  header.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const key = row => row.cells[at].dataset.key ?? row.cells[at].textContent;
  const order = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === '' || y === '') return (x === '') - (y === '');
    return (down ? -1 : 1) * (x - y || x.localeCompare(y, undefined, {numeric: true}));
  };
  body.append(...[...body.rows].sort(order));
}));
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(part => part.open = true));
