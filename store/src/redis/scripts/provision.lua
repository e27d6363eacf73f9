-- proof: empty or a public key
local known = redis.call('HGET', KEYS[1], 'i')
local time = redis.call('TIME')
local created = known and string.sub(known, 2, 8)
  or struct.pack('>I7', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'i', '\0' .. created .. ARGV[1])
return known and 1 or 0
