-- the public key that the device proved
local known = redis.call('HMGET', KEYS[1], 'i', 'n')
local identity, following = known[1], known[2]
if not identity then return 4 end
if string.byte(identity, 1) == 1 then return 3 end
if string.sub(identity, 9) == ARGV[1] then return 1 end
if following ~= ARGV[1] then return 2 end
redis.call('HSET', KEYS[1], 'i', string.sub(identity, 1, 8) .. ARGV[1])
redis.call('HDEL', KEYS[1], 'n')
return 0
