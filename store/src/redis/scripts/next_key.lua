-- the next public key
local known = redis.call('HGET', KEYS[1], 'i')
if not known then return 3 end
local current = string.sub(known, 9)
if current == '' then return 2 end
if current == ARGV[1] then return 1 end
redis.call('HSET', KEYS[1], 'n', ARGV[1])
return 0
