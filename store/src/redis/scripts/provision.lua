-- current and next public key, each may be empty
local known = redis.call('HGET', KEYS[1], 'i')
local time = redis.call('TIME')
local identity = known and string.sub(known, 1, 8)
  or '\0' .. struct.pack('>I7', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'i', identity .. ARGV[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'n', ARGV[2])
else
  redis.call('HDEL', KEYS[1], 'n')
end
return known and 1 or 0
