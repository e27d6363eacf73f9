-- lineage, server, its incarnation, boot, attempt, epoch floor, cursor's generation, cursor's sequence,
-- fingerprint, receive limit, window, mark of the key
local lineage, server, incarnation, boot = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local attempt, epoch_floor = tonumber(ARGV[5]), tonumber(ARGV[6])
local generation, sequence = tonumber(ARGV[7]), tonumber(ARGV[8])
local fingerprint, receive_limit, window = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])

local OFFERS = 8
local d = load('b', 'n')
if not d then return { 1 } end
if d.revoked then return { 2 } end
if not is_marked(d, ARGV[12], d.extra[8]) then return { 5 } end
if not is_credible(d, generation, sequence, epoch_floor) then return { 4 } end
local is_again = d.boot == boot and d.attempt == attempt and d.seat and sub(d.seat, 1, 8) == incarnation
if d.boot == boot then
  if attempt <= d.attempt and not is_again then return { 3 } end
elseif d.boot and epoch_floor < d.epoch then
  -- Attempts compare only within one boot: another boot must know the last session.
  return { 3 }
end
see_lineage(d, lineage, generation)
if d.generation < generation or (d.generation == generation and d.last < sequence) then
  open_generation(d, generation)
end
-- The session that this attach replaces: epoch, seat; kept for when it is asked again.
local replaced = d.extra[7]
if not is_again then
  replaced = d.seat and pack('>I7', d.epoch) .. d.seat
  d.epoch = max(d.epoch + 1, epoch_floor + 1, now(d))
end
d.seat, d.boot, d.attempt, d.session_changed = incarnation .. server, boot, attempt, true
d.fingerprint, d.receive_limit, d.seen = fingerprint, receive_limit, now(d)

trim(d, generation, sequence, 0)
d.doubt, d.sure_changed = 0, false
expire(d, is_again)
if not is_again then
  -- The head that was offered too often without progress is given up.
  while d.first <= d.last do
    if d.head ~= d.first then d.head, d.offers = d.first, 0 end
    if d.offers < OFFERS then
      d.offers = d.offers + 1
      break
    end
    finish(d, unpack('>I7', call('LINDEX', QUEUE, 0), 2), d.first, 6, 0)
  end
end
local replaced_epoch = replaced and unpack('>I7', replaced) or 0
local reply = { 0, d.epoch, d.generation, replaced and sub(replaced, 8) or '', replaced_epoch, generation_of(d, d.offered) or 0, d.offered,
  d.last, 0, now(d) }
reply[9] = page(d, reply, 0, 0, window)
if replaced then
  save(d, 'b', replaced)
else
  if d.extra[7] then call('HDEL', KEY, 'b') end
  save(d)
end
return reply
