-- count of revocations that is known ('' for none): whether there are others, their count, all revoked ids
local count = tonumber(redis.call('GET', KEYS[2]) or '0')
if ARGV[1] == tostring(count) then return { 0 } end
return { 1, count, redis.call('ZRANGE', KEYS[1], 0, -1) }
