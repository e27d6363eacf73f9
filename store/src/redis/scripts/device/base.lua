-- The rules of one device (DESIGN 6.1-6.5), in parts: each script has those it needs in front. The same rules in
-- Rust, for embedded engines, are in src/record/; the bytes are described in src/redis/layout.rs.
-- Numbers stay below 2^53. Nothing is written before the first save() or the first change of the queue.
local KEY, QUEUE, OUTCOMES = KEYS[1], KEYS[2], KEYS[3]
local NO_LINEAGE = '\0\0\0\0\0\0\0\0'
local TOMB = '\0'
local S, M = '>I7c8I4c16I4I7', '>c8I7I7I7I4I7I7I7I1I7I1'
local pack, unpack, spread = struct.pack, struct.unpack, unpack
local max, min, floor, sub = math.max, math.min, math.floor, string.sub
local call = redis.call

-- The store's time in ms.
local function now(d)
  if not d.now then
    local time = call('TIME')
    d.now = time[1] * 1000 + floor(time[2] / 1000)
  end
  return d.now
end

-- Reads the device; nil when it is not provisioned.
local function load(...)
  local f = call('HMGET', KEY, 'i', 's', 'a', 'm', 'g', 'u', ...)
  if not f[1] then return nil end
  local d = { identity = f[1], seat = f[3], mailbox = f[4], extra = f }
  d.revoked = string.byte(f[1], 1) == 1
  if f[2] then
    d.epoch, d.boot, d.attempt, d.fingerprint, d.receive_limit, d.seen = unpack(S, f[2])
  else
    d.epoch, d.boot, d.attempt, d.fingerprint, d.receive_limit, d.seen = 0, nil, 0, NO_LINEAGE .. NO_LINEAGE, 0, 0
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
    f[#f + 1] = pack('>I7', now(d))
  end
  if #f > 0 then call('HSET', KEY, spread(f)) end
end
