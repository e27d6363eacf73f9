-- lineage, tag of the append's id, age in ms of its first try ('' when this is it), fingerprint ('' for none),
-- ttl in s, most waiting, bytes a frame adds, key, payload, token ('' for none)
local lineage, tag, age, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ttl, waiting_max, overhead = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local key, payload, token = ARGV[8], ARGV[9], ARGV[10]

local RECENT = 16
local d = load('r0', 'r1', 'r2', 'r3', 't', 'l')
if not d then return { 1 } end
local recent = d.extra
-- Sequence s has place s mod 16: twelve bytes, its id's tag and when it was appended, in s.
local known
for field = 0, 3 do
  local at = 0
  repeat
    at = string.find(recent[7 + field] or '', tag, at + 1, true)
  until not at or at % 12 == 1
  if at then
    local place = field * 4 + (at - 1) / 12
    known = d.last - (d.last - place) % RECENT
  end
end
local generation = known and known > 0 and generation_of(d, known)
if generation then
  local entry = known >= d.first and call('LINDEX', QUEUE, known - d.first) or TOMB
  local expires = sub(entry, 1, 1) == TOMB and 1 or unpack('>I7', entry, 9)
  if d.seat and d.offered < known then
    d.offered = known
    save(d)
  end
  return { 0, generation, known, expires, d.seat or '', d.epoch }
end
if age ~= '' then
  local since = now(d) - tonumber(age)
  local evicted, moved = unpack('>I7', recent[11] or '\0\0\0\0\0\0\0'), unpack('>I7', recent[12] or '\0\0\0\0\0\0\0')
  local is_moved = d.lineage ~= NO_LINEAGE and d.lineage ~= lineage
  if is_moved or (evicted ~= 0 and evicted >= since) or (moved ~= 0 and moved >= since) then return { 2 } end
end
if d.revoked then return { 3 } end
local spoken = fingerprint == '' and NO_LINEAGE .. NO_LINEAGE or fingerprint
if spoken ~= d.fingerprint then return { 5, d.fingerprint } end
if d.receive_limit ~= 0 and #payload + overhead > d.receive_limit then return { 6, d.receive_limit } end
see_lineage(d, lineage, 0)
expire(d, d.seat)
if d.waiting >= waiting_max then
  save(d)
  return { 4, d.waiting }
end
local sequence, expires = d.last + 1, 0
if ttl > 0 then
  expires = now(d) + ttl * 1000
  if d.next_expiry == 0 or expires < d.next_expiry then d.next_expiry = expires end
end
local kind = (fingerprint == '' and 1 or 2) + (token == '' and 0 or 2)
call('RPUSH', QUEUE, pack('>I1I7I7', kind, d.generation, expires) .. key .. token .. fingerprint .. payload)
d.last, d.waiting = sequence, d.waiting + 1
if d.seat then d.offered = sequence end

local place = sequence % RECENT
local field, at = floor(place / 4), (place % 4) * 12
local old = recent[7 + field] or ''
old = old .. string.rep('\0', at - #old)
local tagged = tag .. pack('>I4', floor(now(d) / 1000))
local evicted = sequence > RECENT and unpack('>I4', old, at + 9) or nil
local now_recent = sub(old, 1, at) .. tagged .. sub(old, at + 13)
if evicted then
  save(d, 'r' .. field, now_recent, 't', pack('>I7', evicted * 1000 + 999))
else
  save(d, 'r' .. field, now_recent)
end
return { 0, d.generation, sequence, expires, d.seat or '', d.epoch }
