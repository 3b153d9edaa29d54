// This node at a glance. Whatever comes from outside becomes text, never markup:
// a process chooses its own name, also `<script>`.
'use strict';

const KEPT = 1000, LISTED = 100;
const kills = new Map();      // id → kill, oldest first
let containers = [];
let stream = null, opened = 0, retry = null;
let loading = false;          // the list is not here yet: what the stream brings is kept, and shown with it
const at = (id) => document.getElementById(id);

function element(tag, text, ...classes) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.classList.add(...classes.filter(Boolean));
  return made;
}

// Names as they are, control characters and directions of writing made visible.
function plain(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (letter) => '\\u{' + letter.codePointAt(0).toString(16) + '}');
}

function size(bytes) {
  if (bytes == null) return 'size unknown';
  if (bytes >= 2 ** 30) return (bytes / 2 ** 30).toFixed(1) + ' GiB';
  return bytes >= 2 ** 20 ? Math.round(bytes / 2 ** 20) + ' MiB' : Math.round(bytes / 1024) + ' KiB';
}

function ago(time) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  for (const [unit, length] of [['d', 86400], ['h', 3600], ['min', 60]]) {
    if (seconds >= 2 * length) return Math.floor(seconds / length) + ' ' + unit + ' ago';
  }
  return seconds + ' s ago';
}

function when(time) {
  const made = element('time', ago(time));
  made.dateTime = time;
  made.title = time;
  return made;
}

const named = (one) => one.pod != null;
const key = (one) => named(one) ? JSON.stringify([one.namespace, one.pod, one.container]) : String(one.cgroup);
const title = (one) => named(one) ? one.namespace + '/' + one.pod + (one.container ? ' (' + one.container + ')' : '') : one.cgroup ?? 'unknown cgroup';

function survival(kill) {
  const found = kill.exiting ? ', because the kernel found no other process while ' + kill.exiting + ' larger ' + (kill.exiting === 1 ? 'one was' : 'ones were') + ' still exiting' : '';
  if (kill.kind === 'init') return 'the init was killed' + found + ', and the container ended';
  const group = 'killed as a group: ' + kill.processes + (kill.processes === 1 ? ' process' : ' processes');
  const what = kill.kind === 'group' ? group + '; ' : '';
  if (kill.survived) return what + 'the container lives on';
  if (kill.survived !== false) return what + 'not known yet whether the container lives on';
  if (kill.ended_seconds != null) return what + 'the container ended ' + kill.ended_seconds.toFixed(1) + ' s later';
  return kill.kind === 'group' ? group : 'the container ended';
}

// Good or bad is known some seconds after the kill.
const look = (kill) => kill.survived ? 'good' : kill.survived === false ? 'bad' : '';

function asked(trigger) {
  return trigger ? plain(trigger.comm) + ' (pid ' + trigger.pid + ')' : 'not known';
}

// The container's is the smaller one, also where the pod's was hit first, or one inside of the container.
function limit(kill) {
  const read = [kill.limit_bytes, kill.limit === 'container' ? kill.container_limit_bytes : null].filter(Number.isFinite);
  const known = ['container', 'pod'].includes(kill.limit) && read.length > 0;
  return kill.limit + (known ? ' ' + size(Math.min(...read)) : '');
}

// What an opened kill shows, by its number: it is asked for once, and stays open when the kill changes.
const scenes = new Map();

function table(head, rows) {
  const made = document.createElement('table');
  const line = (cells, tag) => {
    const row = document.createElement('tr');
    row.append(...cells.map((cell) => element(tag, plain(cell))));
    return row;
  };
  const above = document.createElement('thead');
  const below = document.createElement('tbody');
  above.append(line(head, 'th'));
  below.append(...rows.map((row) => line(row, 'td')));
  made.append(above, below);
  const wide = element('div', '', 'wide', 'scene');
  wide.append(made);
  return wide;
}

const amount = (bytes) => bytes == null ? '–' : size(bytes);

const FIGURES = { current: 'in use', peak: 'peak', anon: 'anonymous', file: 'page cache, tmpfs', shmem: 'tmpfs, shared',
  file_dirty: 'dirty', file_writeback: 'under writeback', unevictable: 'unevictable', kernel: 'kernel', slab: 'slab',
  page_tables: 'page tables', sock: 'sockets', swap: 'swap' };

// What the victims' command lines said when they died, where their rule asks for it.
function argued(whole) {
  if (!whole.arguments?.length) return [];
  const said = (one) => one.text == null ? 'not known: ' + one.missing : one.text + (one.cut ? ' …' : '');
  return [table(['PID', 'Arguments at death'], whole.arguments.map((one) => [one.pid, said(one)]))];
}

// Whether more becomes known of them.
const waits = (whole) => (whole.arguments ?? []).some((one) => one.missing === 'waiting');

// Who used how much: the same as `herder-agent explain`.
function shown(scene) {
  if (!scene) return [element('p', 'What was used is not kept: the agent has it for the last 100 kills.', 'detail')];
  const parts = [];
  const used = (name, of) => of ? [name + ' ' + size(of.usage) + (of.limit == null ? ', no limit' : ' of ' + size(of.limit))] : [];
  parts.push(element('p', [...used('memory', scene.memory), ...used('swap', scene.swap)].join(' · '), 'detail'));
  if (scene.candidates.length) {
    const rows = scene.candidates.map((one) => [one.comm + (one.killed ? ', killed' : ''), one.pid,
      ...['size', 'anon_rss', 'file_rss', 'shmem_rss', 'swap', 'page_tables'].map((part) => amount(one[part])),
      one.oom_score_adj ?? '–', one.owner ?? one.cgroup ?? '–']);
    parts.push(table(['Process', 'PID', 'Size', 'Anonymous', 'File', 'Shared', 'Swap', 'Page tables', 'oom_score_adj', 'Of'], rows));
    const more = scene.looked_at - scene.candidates.length;
    if (more > 0) parts.push(element('p', 'and ' + more + ' smaller ones', 'detail'));
  }
  const files = [['Container', scene.container], ["Limit's cgroup", scene.domain]].filter(([, of]) => of);
  if (files.length) {
    const rows = Object.entries(FIGURES).filter(([field]) => files.some(([, of]) => of[field] != null))
      .map(([field, name]) => [name, ...files.map(([, of]) => amount(of[field]))]);
    rows.push(['processes and threads', ...files.map(([, of]) => of.pids ?? '–')]);
    const after = scene.read_seconds == null ? 'Files' : 'Files, ' + Math.round(scene.read_seconds * 1000) + ' ms later';
    parts.push(table([after, ...files.map(([name]) => name)], rows));
  }
  if (scene.containers.length) {
    parts.push(table(['Most memory of the node', 'In use', 'Requests', 'Limit'],
      scene.containers.map((one) => [one.owner, ...[one.memory, one.request, one.limit].map(amount)])));
  }
  parts.push(...scene.missing.map((one) => element('p', one.what + ' not known: ' + one.why, 'detail')));
  return parts;
}

function opening(kill) {
  const made = document.createElement('details');
  made.append(element('summary', 'who used how much'));
  const show = (whole) => {
    const finding = whole.scene?.finding;
    const text = finding ? [element('p', plain(finding.text), 'finding')] : [];
    made.replaceChildren(made.firstElementChild, ...text, ...argued(whole), ...shown(whole.scene));
  };
  if (scenes.has(kill.id)) {
    made.open = true;
    show(scenes.get(kill.id));
  }
  // Asked for again while arguments are waited for, which the agent does for 20 s.
  const ask = async (times) => {
    try {
      const whole = await get('api/v1/kills/' + kill.id);
      if (!made.open || !made.isConnected) return;
      scenes.set(kill.id, whole);
      show(whole);
      if (waits(whole) && times > 1) setTimeout(() => { if (made.open && made.isConnected) ask(times - 1); }, 1000);
    } catch (error) {
      made.replaceChildren(made.firstElementChild, element('p', 'the agent has no more of this kill, or does not answer', 'bad'));
    }
  };
  made.addEventListener('toggle', () => {
    if (!made.open) { scenes.delete(kill.id); return; }
    const known = scenes.get(kill.id);
    if (!known || waits(known)) ask(30);
  });
  return made;
}

function item(kill) {
  const made = element('li', '', look(kill));
  made.dataset.id = kill.id;
  const victim = kill.victim;
  made.append(element('strong', plain(title(kill))), ' ', when(kill.time), element('br', ''),
    element('span', plain(victim.comm ?? 'a process')),
    victim.pid === null ? ' – ' : ' (pid ' + victim.pid + ', ' + size(victim.anon_rss) + ') – ',
    element('span', survival(kill), look(kill)),
    element('span', 'limit: ' + limit(kill) + ' · asked for memory: ' + asked(kill.trigger) +
      ' · rule: ' + plain(kill.rule ?? 'none'), 'detail'), opening(kill));
  return made;
}

// What follows when processes of the container keep dying, and how far that is.
function escalation(it) {
  const within = it.within_seconds % 60 ? it.within_seconds + ' s' : it.within_seconds / 60 + ' min';
  const follows = it.to === 'restart' ? 'a restart follows' : 'the next takes all processes';
  const kills = it.after + (it.after === 1 ? ' kill' : ' kills');
  const said = {
    group: 'escalated: the next kill takes all processes, until there was none for ' + within,
    waiting: 'escalated: its restart waits, because the node had another one a short time ago',
    restarting: 'escalated: it is being restarted',
  }[it.state];
  return element('span', said ?? it.kills + ' of ' + kills + ' within ' + within + ', after which ' + follows, 'detail', said ? 'warn' : '');
}

function value(row) {
  const cell = element('td', '', 'value');
  const { state } = row;
  if (!state) {
    cell.append(element('span', 'no rule matches', 'detail'));
    return cell;
  }
  const wanted = state.wanted === state.effective;
  const meaning = state.effective == null ? 'unknown' : state.effective + (state.effective ? ' (group)' : ' (single process)');
  cell.append(element('span', meaning, wanted && !state.obstacle ? 'good' : 'bad'));
  if (!wanted) cell.append(element('span', 'the rule wants ' + state.wanted, 'detail'));
  if (state.obstacle) cell.append(element('span', plain(state.obstacle + ': ' + state.explanation), 'detail', 'warn'));
  if (state.reverts) cell.append(element('span', 'changed by something else ' + state.reverts + ' times', 'detail'));
  if (state.escalation) cell.append(escalation(state.escalation));
  return cell;
}

function rows() {
  const rows = new Map();
  for (const state of containers) {
    const one = { ...state.owner, cgroup: state.cgroup };
    rows.set(key(one), { one, state, counts: { subprocess: 0, init: 0, group: 0 }, last: null });
  }
  for (const kill of kills.values()) {
    const id = key(kill);
    if (!rows.has(id)) rows.set(id, { one: kill, state: null, counts: { subprocess: 0, init: 0, group: 0 }, last: null });
    const row = rows.get(id);
    row.counts[kill.kind] += 1;
    row.last = kill;
  }
  return [...rows.values()].sort((a, b) => (b.last?.id ?? 0) - (a.last?.id ?? 0));
}

function showContainers() {
  const all = rows();
  at('no-containers').hidden = all.length > 0;
  document.querySelector('#containers tbody').replaceChildren(...all.map((row) => {
    const made = document.createElement('tr');
    const name = element('td', plain(title(row.one)));
    const rule = element('td', plain(row.state?.rule ?? '–'), 'rule');
    rule.dataset.name = 'rule';
    made.append(name, rule, value(row));
    for (const [kind, shown] of [['subprocess', 'sub-process'], ['init', 'init'], ['group', 'group']]) {
      const cell = element('td', row.counts[kind], 'number');
      cell.dataset.name = shown;
      made.append(cell);
    }
    const last = element('td', '', 'last');
    last.dataset.name = 'last kill';
    last.append(row.last ? when(row.last.time) : '–');
    made.append(last);
    return made;
  }));
}

function showKills() {
  const newest = [...kills.values()].slice(-LISTED).reverse();
  at('no-kills').hidden = newest.length > 0;
  at('kills').replaceChildren(...newest.map(item));
}

function add(kill) {
  if (kills.has(kill.id)) return false;
  kills.set(kill.id, kill);
  if (kills.size > KEPT) kills.delete(kills.keys().next().value);
  return true;
}

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(path + ': ' + answer.status);
  return answer.json();
}

async function refresh() {
  try {
    containers = await get('api/v1/containers');
    showContainers();
    if (stream.readyState === EventSource.OPEN) state('live', 'live');
  } catch (error) {
    state('the agent does not answer', 'cut');
  }
}

// The list, and what the stream has brought since it was asked for; by number, each once.
async function reload() {
  const asked = opened;
  const listed = await get('api/v1/kills');
  if (asked !== opened) return;
  const all = new Map([...kills, ...listed.map((kill) => [kill.id, kill])]);
  kills.clear();
  [...all.values()].sort((a, b) => a.id - b.id).forEach(add);
  loading = false;
  showKills();
  await refresh();
}

function state(text, look) {
  at('state').textContent = text;
  at('state').className = look;
}

// Many kills at once are one redraw of the table.
let waiting = null;
function soon() {
  waiting ??= setTimeout(() => { waiting = null; refresh(); }, 300);
}

function follow() {
  stream = new EventSource('api/v1/kills/stream');
  const again = () => {
    state('the agent does not answer; trying again', 'cut');
    stream.close();
    clearTimeout(retry);
    retry = setTimeout(follow, 5000);
  };
  // Before the list is asked for, so that no kill falls between the two. An agent
  // that was started anew counts from 1 again, so nothing is kept from before.
  stream.onopen = () => {
    state('live', 'live');
    opened += 1;
    loading = true;
    kills.clear();
    scenes.clear();
    reload().catch(again);
  };
  stream.onerror = () => {
    // A refusal (too many streams) ends it for good, so begin anew.
    if (stream.readyState === EventSource.CLOSED) again();
    else state('disconnected; trying again', 'cut');
  };
  stream.addEventListener('kill', (event) => {
    const kill = JSON.parse(event.data);
    if (!add(kill) || loading) return;
    const made = item(kill);
    made.classList.add('new');
    at('kills').prepend(made);
    while (at('kills').childElementCount > LISTED) at('kills').lastElementChild.remove();
    at('no-kills').hidden = true;
    soon();
  });
  stream.addEventListener('settled', (event) => {
    const kill = JSON.parse(event.data);
    if (!kills.has(kill.id)) return;
    kills.set(kill.id, kill);
    document.querySelector('#kills [data-id="' + kill.id + '"]')?.replaceWith(item(kill));
  });
  // Some were missed: take the list anew.
  stream.addEventListener('missed', () => reload().catch(again));
}

get('api/v1/node').then((node) => {
  at('node').textContent = plain(node.node) + ', Linux ' + plain(node.kernel);
  document.title = 'Herder ' + plain(node.node);
}).catch(() => {});
follow();
setInterval(() => {
  document.querySelectorAll('time').forEach((time) => { time.textContent = ago(time.dateTime); });
}, 1000);
setInterval(refresh, 10000);
