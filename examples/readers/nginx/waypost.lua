-- A route table in every nginx worker, read from Redis four times a second. Needs lua-cjson; the few lines of the
-- Redis protocol are our own, as Debian has no lua-resty-redis.
local cjson = require "cjson.safe"
local balancer = require "ngx.balancer"

local PREFIX, EVERY, TIMEOUT_MS = "waypost:v1:", 0.25, 1000
local known = { revision = 0, endpoints = {} }
local service, host, port

local function command(...)
  local words = { ... }
  local lines = { "*" .. #words }
  for _, word in ipairs(words) do
    lines[#lines + 1] = "$" .. #word
    lines[#lines + 1] = word
  end
  return table.concat(lines, "\r\n") .. "\r\n"
end

local function answer(socket)
  local line, problem = socket:receive("*l")
  if not line then error(problem, 0) end
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == "-" then error(rest, 0) end
  if kind == "$" and rest ~= "-1" then
    local text, why = socket:receive(tonumber(rest) + 2)
    if not text then error(why, 0) end
    return text:sub(1, -3)
  elseif kind == "*" and rest ~= "-1" then
    local items = {}
    for index = 1, tonumber(rest) do items[index] = answer(socket) or false end
    return items
  end
  return (kind == "+" or kind == ":") and rest or nil
end

local function read()
  local socket = ngx.socket.tcp()
  socket:settimeout(TIMEOUT_MS)
  local connected, problem = socket:connect(host, port)
  if not connected then error(problem, 0) end
  local key = PREFIX .. "{" .. service .. "}:"
  local sent, why = socket:send(command("MULTI") .. command("GET", PREFIX .. "generation")
    .. command("HGETALL", key .. "route") .. command("HMGET", key .. "meta", "revision", "endpoints") .. command("EXEC"))
  if not sent then error(why, 0) end
  for _ = 1, 4 do answer(socket) end -- OK, and QUEUED three times
  local generation, route, meta = unpack(answer(socket))
  socket:setkeepalive(10000, 4)
  local endpoints, total = {}, 0
  for index = 1, #route, 2 do
    local endpoint = cjson.decode(route[index + 1])
    -- nginx's balancer takes addresses, not names.
    if endpoint and (endpoint.address:find(":", 1, true) or endpoint.address:find("^[%d.]+$")) then
      endpoints[#endpoints + 1] = endpoint
      total = total + endpoint.weight
    end
  end
  -- Revisions are below 2^53, which is what a number of Lua can hold.
  return { generation = generation, revision = tonumber(meta[1] or 0), endpoints = endpoints, total = total },
    tonumber(meta[2] or 0)
end

-- Whether what was read is to be believed: docs/redis.md, rules 6 and 7.
local function may_replace(found, count)
  if found.revision == 0 then
    return known.revision == 0 or (found.generation and found.generation == known.generation)
  end
  return found.revision >= known.revision and not (count > 0 and #found.endpoints == 0)
end

local waypost = {}

-- In init_worker_by_lua: keep the table of `name` (namespace/service) up to date.
function waypost.follow(redis_host, redis_port, name)
  host, port, service = redis_host, redis_port, name
  local was_stale
  local function round(premature)
    if premature then return end
    local fine, found, count = pcall(read)
    local stale = not fine or not may_replace(found, count)
    if not stale then
      found.revision = math.max(found.revision, known.revision)
      known = found
    end
    if stale ~= was_stale then
      ngx.log(ngx.WARN, "the table of ", service, stale and " is stale: " or " is fresh", fine and "" or tostring(found))
      was_stale = stale
    end
    ngx.timer.at(EVERY, round)
  end
  ngx.timer.at(0, round)
end

-- In access_by_lua: 503 while there is nobody to call.
function waypost.require_endpoints()
  if #known.endpoints == 0 then return ngx.exit(503) end
end

-- In balancer_by_lua: one endpoint by weight; nginx asks again when it cannot be reached, and gets another one.
function waypost.balance()
  local tried = ngx.ctx.tried
  if not tried then
    tried = {}
    ngx.ctx.tried = tried
    balancer.set_more_tries(2)
  end
  local candidates, total = {}, 0
  for _, endpoint in ipairs(known.endpoints) do
    if not tried[endpoint.address .. " " .. endpoint.port] and (endpoint.weight > 0 or known.total == 0) then
      candidates[#candidates + 1] = endpoint
      total = total + math.max(endpoint.weight, 1)
    end
  end
  local chance = math.random() * total
  for _, endpoint in ipairs(candidates) do
    chance = chance - math.max(endpoint.weight, 1)
    if chance <= 0 then
      tried[endpoint.address .. " " .. endpoint.port] = true
      return balancer.set_current_peer(endpoint.address, endpoint.port)
    end
  end
  return ngx.exit(502)
end

return waypost
