-- The rules of one device (DESIGN 6.1-6.5), in front of every script that touches one. The same rules in Rust,
-- for embedded engines, are in src/record/; the bytes are described in src/redis/layout.rs.
-- Numbers stay below 2^53. Nothing is written before the first save() or the first change of the queue.
local KEY, QUEUE, OUTCOMES = KEYS[1], KEYS[2], KEYS[3]
local RECENT, GENERATIONS, OUTCOMES_MAX, OUTCOME_AGE = 16, 4, 64, 86400000
local OFFERS, PAGE, DAY = 8, 16384, 86400000
local NO_LINEAGE = string.rep('\0', 8)
local TOMB = '\0'
local S, M = '>I7c8I4c16I4I7', '>c8I7I7I7I4I7I7I7I1I7I1'
local pack, unpack, spread = struct.pack, struct.unpack, unpack
local max, min, floor = math.max, math.min, math.floor
local call = redis.call

-- Reads the device; nil when it is not provisioned.
local function load(...)
  local f = call('HMGET', KEY, 'i', 's', 'a', 'm', 'g', 'u', ...)
  if not f[1] then return nil end
  local time = call('TIME')
  local d = { now = time[1] * 1000 + floor(time[2] / 1000), identity = f[1], seat = f[3], mailbox = f[4], extra = f }
  d.revoked = string.byte(f[1], 1) == 1
  if f[2] then
    d.epoch, d.boot, d.attempt, d.fingerprint, d.receive_limit, d.seen = unpack(S, f[2])
  else
    d.epoch, d.boot, d.attempt, d.fingerprint, d.receive_limit, d.seen = 0, nil, 0, string.rep('\0', 16), 0, 0
  end
  if f[4] then
    d.lineage, d.generation, d.first, d.last, d.waiting, d.offered, d.doubt, d.head, d.offers, d.next_expiry,
      d.held = unpack(M, f[4])
  else
    d.lineage, d.generation, d.first, d.last, d.waiting, d.offered = NO_LINEAGE, 0, 1, 0, 0, 0
    d.doubt, d.head, d.offers, d.next_expiry, d.held = 0, 0, 0, 0, 0
  end
  d.generations = f[5] or ''
  d.sure, d.sure_epoch = 0, 0
  if f[6] then d.sure, d.sure_epoch = unpack('>I7I7', f[6]) end
  return d
end

-- Writes what changed, and further fields.
local function save(d, ...)
  local f = { ... }
  local mailbox = pack(M, d.lineage, d.generation, d.first, d.last, d.waiting, d.offered, d.doubt, d.head, d.offers,
    d.next_expiry, d.held)
  if mailbox ~= d.mailbox then
    f[#f + 1] = 'm'
    f[#f + 1] = mailbox
  end
  if d.session_changed then
    f[#f + 1] = 's'
    f[#f + 1] = pack(S, d.epoch, d.boot, d.attempt, d.fingerprint, d.receive_limit, d.seen)
    if d.seat then
      f[#f + 1] = 'a'
      f[#f + 1] = d.seat
    else
      call('HDEL', KEY, 'a')
    end
  end
  if d.generations_changed then
    f[#f + 1] = 'g'
    f[#f + 1] = d.generations
  end
  if d.sure_changed then
    f[#f + 1] = 'u'
    f[#f + 1] = pack('>I7I7', d.sure, d.sure_epoch)
  elseif d.extra[6] and d.doubt == 0 then
    call('HDEL', KEY, 'u')
  end
  if d.lineage_changed then
    f[#f + 1] = 'l'
    f[#f + 1] = pack('>I7', d.now)
  end
  if #f > 0 then call('HSET', KEY, spread(f)) end
end

-- The generation that a sequence was assigned in; nil when it is not remembered.
local function generation_of(d, sequence)
  local g = d.generations
  for at = #g - 13, 1, -14 do
    local generation, first = unpack('>I7I7', g, at)
    if first <= sequence then return generation end
  end
  if sequence >= d.first and sequence <= d.last then
    return (unpack('>I7', call('LINDEX', QUEUE, sequence - d.first), 2))
  end
  return nil
end

-- The last sequence whose id is at or below the pair.
local function last_upto(d, generation, sequence)
  local g, next_first = d.generations, d.last + 1
  for at = #g - 13, 1, -14 do
    local known, first = unpack('>I7I7', g, at)
    if known == generation then return max(first - 1, min(sequence, next_first - 1)) end
    if known < generation then return next_first - 1 end
    next_first = first
  end
  -- Older than what is remembered: the entries that are left know theirs.
  local upto = d.first - 1
  for _, entry in ipairs(next_first > d.first and call('LRANGE', QUEUE, 0, next_first - d.first - 1) or {}) do
    local known = unpack('>I7', entry, 2)
    if known > generation or (known == generation and upto + 1 > sequence) then break end
    upto = upto + 1
  end
  return upto
end

local function remember(d, generation, sequence, kind, code)
  call('RPUSH', OUTCOMES, pack('>I7I7I7I1I2', generation, sequence, d.now, kind, code))
  if call('LLEN', OUTCOMES) > OUTCOMES_MAX then
    local _, gone = unpack('>I7I7', call('LPOP', OUTCOMES))
    local before = unpack('>I7', call('HGET', KEY, 'x') or string.rep('\0', 7))
    call('HSET', KEY, 'x', pack('>I7', max(gone, before)))
  end
end

-- Tombstones that came first go.
local function settle(d)
  while d.waiting < d.last - d.first + 1 do
    if string.sub(call('LINDEX', QUEUE, 0), 1, 1) ~= TOMB then return end
    call('LPOP', QUEUE)
    d.first = d.first + 1
  end
  if d.first > d.last then d.next_expiry, d.held = 0, 0 end
end

-- Everything up to the pair is final: says the session of this epoch, or a cursor (0).
local function trim(d, generation, sequence, epoch)
  local sure = epoch ~= 0 and epoch == d.sure_epoch and d.sure or 0
  local upto = min(last_upto(d, generation, sequence), d.last)
  local count = upto - d.first + 1
  if count > 0 then
    if d.waiting == d.last - d.first + 1 and d.first > d.doubt then
      d.waiting = d.waiting - count
    else
      for i, entry in ipairs(call('LRANGE', QUEUE, 0, count - 1)) do
        if string.sub(entry, 1, 1) ~= TOMB then
          d.waiting = d.waiting - 1
          local ended = d.first + i - 1
          if ended <= d.doubt and ended > sure then remember(d, unpack('>I7', entry, 2), ended, 0, 0) end
        end
      end
    end
    call('LTRIM', QUEUE, count, -1)
    d.first = upto + 1
  end
  settle(d)
end

-- Ends a waiting entry other than by an acknowledgement.
local function finish(d, generation, sequence, kind, code)
  if sequence < d.first or sequence > d.last then return end
  local entry = call('LINDEX', QUEUE, sequence - d.first)
  if string.sub(entry, 1, 1) == TOMB or unpack('>I7', entry, 2) ~= generation then return end
  call('LSET', QUEUE, sequence - d.first, TOMB .. string.sub(entry, 2, 8))
  d.waiting = d.waiting - 1
  remember(d, generation, sequence, kind, code)
  settle(d)
end

-- Ends what ran out of time, except what a live session may hold in flight.
local function expire(d, is_held)
  local is_due = d.next_expiry ~= 0 and d.next_expiry <= d.now
  if not is_due and (is_held or d.held == 0) then return end
  local over, next_expiry, held = {}, 0, 0
  for i, entry in ipairs(call('LRANGE', QUEUE, 0, -1)) do
    if string.sub(entry, 1, 1) ~= TOMB then
      local generation, expires = unpack('>I7I7', entry, 2)
      local sequence = d.first + i - 1
      if expires > d.now then
        if next_expiry == 0 or expires < next_expiry then next_expiry = expires end
      elseif expires ~= 0 and is_held and sequence <= d.offered then
        held = 1
      elseif expires ~= 0 then
        over[#over + 1] = { generation, sequence }
      end
    end
  end
  d.next_expiry, d.held = next_expiry, held
  for _, id in ipairs(over) do
    finish(d, id[1], id[2], id[2] <= d.offered and 4 or 3, 0)
  end
end

-- The contents may have gone back: nothing that waits now is proved by a cumulative trim, except by the session
-- that holds it in flight.
local function doubt_all(d)
  if d.doubt == 0 then
    d.sure, d.sure_epoch, d.sure_changed = d.offered, d.seat and d.epoch or 0, d.last > 0
  end
  d.doubt = d.last
end

-- What is appended from now on belongs to a new generation, beyond the one that the device knows.
local function open_generation(d, devices)
  d.generation = max(d.now, d.generation + 1, devices + 1)
  local g = d.generations
  if #g >= 14 and select(2, unpack('>I7I7', g, #g - 13)) > d.last then g = string.sub(g, 1, -15) end
  if #g >= 14 * GENERATIONS then g = string.sub(g, 15) end
  d.generations, d.generations_changed = g .. pack('>I7I7', d.generation, d.last + 1), true
  doubt_all(d)
  d.offered = d.last
end

local function see_lineage(d, lineage, devices)
  if d.lineage == lineage then return end
  open_generation(d, devices)
  d.lineage_changed = d.lineage ~= NO_LINEAGE
  d.lineage = lineage
end

-- Whether numbers stated from outside can be true: below 2^53, times at most a day ahead.
local function is_credible(d, generation, sequence, epoch)
  return sequence < 2 ^ 53 and generation <= max(d.now + DAY, d.generation) and epoch <= max(d.now + DAY, d.epoch)
end

-- Appends the first entries behind the pair to a reply: sequence, bytes, .... They count as offered.
-- Returns 1 when more wait behind them.
local function page(d, reply, generation, sequence, limit)
  local at, len, taken = max(last_upto(d, generation, sequence) + 1, d.first), 0, 0
  while at <= d.last do
    local chunk = call('LRANGE', QUEUE, at - d.first, at - d.first + min(limit, 32))
    for _, entry in ipairs(chunk) do
      if string.sub(entry, 1, 1) ~= TOMB then
        len = len + #entry - (string.byte(entry, 1) == 1 and 19 or 35)
        if taken >= limit or (len > PAGE and taken > 0) then return 1 end
        taken = taken + 1
        reply[#reply + 1] = at
        reply[#reply + 1] = entry
        d.offered = max(d.offered, at)
      end
      at = at + 1
    end
  end
  return 0
end

-- Ends the session; what it held in flight past its time is expired.
local function leave(d)
  d.seat, d.seen, d.session_changed = false, d.now, true
  call('HDEL', KEY, 'b')
  expire(d, false)
end

-- State of a message, as in layout.rs: kind, code.
local function state(d, generation, sequence)
  if sequence > d.last then return 0, 0 end
  if sequence >= d.first then
    local entry = call('LINDEX', QUEUE, sequence - d.first)
    if string.sub(entry, 1, 1) ~= TOMB and unpack('>I7', entry, 2) == generation then
      return sequence <= d.offered and 9 or 8, 0
    end
  end
  if generation_of(d, sequence) ~= generation then return 0, 0 end
  local known = call('LRANGE', OUTCOMES, 0, -1)
  local forgotten = unpack('>I7', call('HGET', KEY, 'x') or string.rep('\0', 7))
  for _, outcome in ipairs(known) do
    local g, s, at, kind, code = unpack('>I7I7I7I1I2', outcome)
    if at < d.now - OUTCOME_AGE then
      forgotten = max(forgotten, s)
      call('LPOP', OUTCOMES)
      call('HSET', KEY, 'x', pack('>I7', forgotten))
    elseif g == generation and s == sequence then
      return kind, code
    end
  end
  return sequence <= forgotten and 0 or 10, 0
end
