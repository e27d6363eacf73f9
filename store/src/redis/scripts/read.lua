-- epoch, generation and sequence behind which to read, limit
local epoch, generation, sequence, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local d = load()
if not d or not d.seat or d.epoch ~= epoch then return { 1 } end
expire(d, true)
local reply = { 0, d.generation, d.last, 0, 0, now(d) }
reply[5] = page(d, reply, generation, sequence, limit)
reply[4] = d.waiting
save(d)
return reply
