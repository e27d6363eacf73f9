-- lineage, server, its incarnation, epoch, boot, attempt, fingerprint, receive limit, generation and sequence sent,
-- mark of the key
local lineage, server, incarnation, epoch = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local boot, attempt, fingerprint, receive_limit = ARGV[5], tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local generation, sequence = tonumber(ARGV[9]), tonumber(ARGV[10])
local d = load('n')
if not d or d.revoked or not is_marked(d, ARGV[11], d.extra[7]) then return { 1 } end
if epoch < d.epoch or not is_credible(d, generation, sequence, epoch) then return { 1 } end
if d.seat and epoch == d.epoch and sub(d.seat, 1, 8) ~= incarnation then return { 1 } end
see_lineage(d, lineage, generation)
if d.generation < generation or (d.generation == generation and d.last < sequence) then
  open_generation(d, generation)
end
local replaced, replaced_epoch = (epoch ~= d.epoch and d.seat) or '', d.epoch
d.epoch, d.seat, d.boot, d.attempt, d.session_changed = epoch, incarnation .. server, boot, attempt, true
d.fingerprint, d.receive_limit = fingerprint, receive_limit
save(d)
return { 0, d.generation, d.last, d.waiting, replaced, replaced_epoch }
